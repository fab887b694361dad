//! The same results as llama-server's, of a Linux distribution, with the same files:
//! embeddings, scores and filled-in text. `benches/peers/setup.sh llama-server` fetches it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hearth_gguf::synthetic::{Encoder, make_encoder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Daemon, Engine, Setup, until};
use crate::not_checked::not_checked;
use crate::real_models::{folder, real_model};

/// As Hearthd is configured here.
const CONTEXT: &str = "4096";
/// The most tokens of an answer.
const TOKENS: u32 = 24;

/// llama-server with one model, on a socket of its own.
struct Server {
    child: Child,
    dir: TempDir,
}

impl Server {
    /// Starts it out of its unpacked packages, with their loader and libraries; `None` where it
    /// is not there.
    fn start(model: &Path, options: &[&str]) -> Option<Self> {
        let Some(root) = unpacked() else {
            not_checked("beside llama-server: benches/peers/setup.sh llama-server fetches it");
            return None;
        };
        let libraries = found(&root.join("usr/lib"), "libllama.so.0");
        let libraries = libraries.parent().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("server.sock");
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(found(libraries, "ld-linux"))
            .arg("--library-path")
            .arg(format!("{0}:{0}/llama", libraries.display()))
            .arg(root.join("usr/bin/llama-server"))
            .args(["--ctx-size", CONTEXT, "--parallel", "1", "--threads", "1"])
            .args(["--threads-batch", "1", "--ubatch-size", "2048", "--model"])
            .arg(model)
            .args(options)
            .arg("--host")
            .arg(&socket)
            // llama.cpp looks for its CPU kernels in the working folder.
            .current_dir(found(libraries, "backends"))
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        let server = Self { child, dir };
        until("llama-server is ready", || {
            UnixStream::connect(server.socket()).is_ok() && server.get("/health")["status"] == "ok"
        });
        Some(server)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("server.sock")
    }

    fn get(&self, path: &str) -> Value {
        curl(&self.socket(), path, &[])
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        curl(&self.socket(), path, &["-d", &body.to_string()])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log"));
            eprintln!("--- llama-server said:\n{}", log.unwrap_or_default());
        }
    }
}

fn curl(socket: &Path, path: &str, args: &[&str]) -> Value {
    let output = Command::new("curl")
        .args([
            "-sS",
            "--max-time",
            "900",
            "-H",
            "Content-Type: application/json",
        ])
        .arg("--unix-socket")
        .arg(socket)
        .args(args)
        .arg(format!("http://localhost{path}"))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// The folder of Debian's packages.
fn unpacked() -> Option<PathBuf> {
    let peers = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()?
        .join("peers");
    let folders = fs::read_dir(peers).ok()?;
    let mut folders = folders.filter_map(|entry| Some(entry.ok()?.path()));
    folders.find(|folder| folder.join("usr/bin/llama-server").is_file())
}

/// The first file or folder below `folder` whose name begins so.
fn found(folder: &Path, name: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(name)
            {
                return path;
            }
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    panic!("no {name} in {}", folder.display());
}

fn hearthd() -> Daemon {
    Daemon::start(Setup {
        engine: Engine::Real,
        config: "[model]\ncontext = 4096\n[engine]\nthreads = 1\n",
        ..Setup::default()
    })
}

/// Hearthd's answer, and llama-server's, to the same request.
fn both(daemon: &Daemon, server: &Server, path: &str, body: &Value) -> [Value; 2] {
    [
        curl(&daemon.socket(), path, &["-d", &body.to_string()]),
        server.post(path, body),
    ]
}

fn vector(answer: &Value, at: usize) -> Vec<f64> {
    let list = answer["data"][at]["embedding"].as_array();
    let list = list.unwrap_or_else(|| panic!("{answer}"));
    list.iter().map(|v| v.as_f64().unwrap()).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

const TEXTS: [&str; 5] = [
    "Turn on the kitchen light.",
    "What is the capital of Italy?",
    "Grüße aus Köln, 東京 and 🦀",
    "x",
    "The heating follows the plan of the week, unless a window is open or nobody is at home; \
     then it keeps twelve degrees until somebody returns or the window is closed.",
];

/// `MiniLM`, where `tests/models/minilm.py` has converted it.
fn minilm() -> Option<PathBuf> {
    let path = folder().join("all-minilm-l6-v2-f32.gguf");
    if path.is_file() {
        return Some(path);
    }
    not_checked("with MiniLM: tests/models/minilm.py fetches and converts it");
    None
}

#[test]
fn embeddings_are_the_same() {
    let daemon = hearthd();
    let encoders = [
        Encoder::Bert,
        Encoder::NomicBert,
        Encoder::Gemma,
        Encoder::Qwen3,
    ];
    let files = encoders.map(|encoder| {
        let name = format!("{encoder:?}").to_lowercase();
        let path = daemon.models().join(format!("{name}.gguf"));
        make_encoder(&path, encoder, 3).unwrap();
        (name, path)
    });
    let real = minilm().map(|from| {
        let path = daemon.models().join("minilm.gguf");
        fs::copy(from, &path).unwrap();
        ("minilm".to_owned(), path)
    });
    for (name, path) in files.into_iter().chain(real) {
        let Some(server) = Server::start(&path, &["--embedding"]) else {
            return;
        };
        let body = json!({"model": name, "input": TEXTS});
        let [ours, theirs] = both(&daemon, &server, "/v1/embeddings", &body);
        assert_eq!(ours["usage"], theirs["usage"], "{name}");
        for (at, text) in TEXTS.iter().enumerate() {
            let cosine = cosine(&vector(&ours, at), &vector(&theirs, at));
            assert!(cosine > 0.999, "{name}: {text}: {cosine}");
        }
        println!("{name}: {} vectors as llama-server's", TEXTS.len());
    }
}

/// The indexes and scores of an answer.
fn ranks(answer: &Value) -> Vec<(u64, f64)> {
    let results = answer["results"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let rank = |r: &Value| Some((r["index"].as_u64()?, r["relevance_score"].as_f64()?));
    results.iter().map(|r| rank(r).unwrap()).collect()
}

#[test]
fn scores_and_their_order_are_the_same() {
    let daemon = hearthd();
    for encoder in [Encoder::BertReranker, Encoder::Qwen3Reranker] {
        let name = format!("{encoder:?}").to_lowercase();
        let path = daemon.models().join(format!("{name}.gguf"));
        make_encoder(&path, encoder, 3).unwrap();
        let Some(server) = Server::start(&path, &["--rerank"]) else {
            return;
        };
        let query = "Where is the <|mark|> lamp?";
        let body = json!({"model": name, "query": query, "documents": TEXTS});
        for (path, body) in [
            ("/v1/rerank", body.clone()),
            (
                "/reranking",
                json!({"model": name, "query": "x", "documents": TEXTS, "top_n": 2}),
            ),
        ] {
            let [ours, theirs] = both(&daemon, &server, path, &body);
            assert_eq!(ours["usage"], theirs["usage"], "{name}: {ours}, {theirs}");
            let fields = |answer: &Value| {
                let fields = answer.as_object().unwrap().keys().cloned();
                fields.collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(fields(&ours), fields(&theirs), "{name}");
            let (ours, theirs) = (ranks(&ours), ranks(&theirs));
            assert_eq!(ours.len(), theirs.len());
            for ((at, score), (other_at, other)) in ours.iter().zip(&theirs) {
                assert_eq!(at, other_at, "{name}: {ours:?}, {theirs:?}");
                // Two builds of llama.cpp differ in the last digits of each product.
                assert!((score - other).abs() < 1e-3, "{name}: {ours:?}, {theirs:?}");
            }
            assert!(ours[0].1 > ours[1].1, "{ours:?}");
        }
        println!("{name}: scores as llama-server's");
    }
}

const PREFIX: &str = "def area(width, height):\n    \"\"\"The area of a rectangle.\"\"\"\n    ";
const SUFFIX: &str = "\n\n\nprint(area(2, 3))\n";

/// Texts of all sizes: as they are, and shortened.
fn infills() -> Vec<(&'static str, Value)> {
    let line = |n: u32| format!("def f{n}(x):\n    return x + {n}\n\n\n");
    let lines = |count: u32| (0..count).map(line).collect::<String>();
    let extra = |count: u32| json!([{"filename": "lib/helpers.py", "text": lines(count)}]);
    let named = json!([
        {"filename": "shapes.py", "text": "class Square:\n    def __init__(self, side):\n        self.side = side\n"},
        {"text": "PI = 3.14159\n"},
    ]);
    vec![
        (
            "texts",
            json!({"input_prefix": PREFIX, "input_suffix": SUFFIX}),
        ),
        (
            "a beginning",
            json!({"input_prefix": PREFIX, "input_suffix": SUFFIX, "prompt": "return "}),
        ),
        (
            "no suffix",
            json!({"input_prefix": PREFIX, "input_suffix": ""}),
        ),
        (
            "other files",
            json!({"input_prefix": PREFIX, "input_suffix": SUFFIX, "input_extra": named}),
        ),
        (
            "names of control tokens",
            json!({"input_prefix": format!("# <|fim_middle|> é\n{PREFIX}"), "input_suffix": SUFFIX}),
        ),
        (
            "a long prefix and a long suffix",
            json!({"input_prefix": lines(200) + PREFIX, "input_suffix": format!("{SUFFIX}{}", lines(100))}),
        ),
        (
            "long other files",
            json!({"input_prefix": PREFIX, "input_suffix": SUFFIX, "input_extra": extra(200)}),
        ),
    ]
}

#[test]
fn filled_in_text_is_the_same() {
    let Some(model) = real_model("qwen2.5-coder-0.5b") else {
        return;
    };
    let limit = TOKENS.to_string();
    let Some(server) = Server::start(&model, &["--predict", &limit]) else {
        return;
    };
    let daemon = hearthd();
    fs::copy(model, daemon.models().join("coder.gguf")).unwrap();
    for (what, mut body) in infills() {
        body["model"] = json!("coder");
        body["n_predict"] = json!(TOKENS);
        body["temperature"] = json!(0);
        // Hearthd's defaults do not count.
        body["repeat_penalty"] = json!(1);
        body["cache_prompt"] = json!(false);
        let [ours, theirs] = both(&daemon, &server, "/infill", &body);
        for field in [
            "tokens_evaluated",
            "content",
            "tokens_predicted",
            "stop_type",
            "truncated",
        ] {
            assert_eq!(
                ours[field], theirs[field],
                "{what}, {field}: {ours}\n{theirs}"
            );
        }
        let text = ours["content"].as_str().unwrap();
        println!(
            "{what}: {} prompt tokens, {text:?}",
            ours["tokens_evaluated"]
        );
        for (name, value) in ours.as_object().unwrap() {
            assert_eq!(
                value.is_number(),
                theirs[name].is_number(),
                "{what}: {name}"
            );
        }
        for name in ours["timings"].as_object().unwrap().keys() {
            assert!(theirs["timings"][name].is_number(), "{name}: {theirs}");
        }
    }
}
