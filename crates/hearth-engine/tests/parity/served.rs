//! The daemon with one model, queried over its socket.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::executables::beside;
use crate::prompts::Prompt;
use crate::{Answer, CONTEXT, TOKENS};

const ENGINE: &str = env!("CARGO_BIN_EXE_hearth-engine");

/// A daemon that computes with one thread, as the reference does, and writes no prompts
/// to disk.
pub struct Served {
    dir: TempDir,
    child: Child,
}

impl Served {
    pub fn start(model: &Path) -> Self {
        Self::with_adapter(model, None)
    }

    /// The same with an adapter of the model, named `tuned`.
    pub fn with_adapter(model: &Path, adapter: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for folder in ["models", "packaged", "board"] {
            fs::create_dir(at(folder)).unwrap();
        }
        let model = model.canonicalize().unwrap();
        std::os::unix::fs::symlink(model, at("models/real.gguf")).unwrap();
        if let Some(adapter) = adapter {
            std::os::unix::fs::symlink(adapter, at("models/tuned.gguf")).unwrap();
        }
        let config = format!(
            "[paths]\nmodels = {:?}\nmodels_packaged = {:?}\nprompts = {:?}\ntuning = {:?}\n\
             engine = {:?}\nsensors_root = {:?}\n[http]\nsocket = {:?}\n\
             [dbus]\nenabled = false\n[engine]\nthreads = 1\n[cache]\ndisk_mib = 0\n\
             [model]\ndefault = \"real\"\ncontext = {CONTEXT}\n",
            at("models"),
            at("packaged"),
            at("prompts"),
            at("tuning.json"),
            ENGINE,
            at("board"),
            at("hearthd.sock"),
        );
        fs::write(at("hearthd.toml"), config).unwrap();
        let log = fs::File::create(at("hearthd.log")).unwrap();
        let child = Command::new(beside(ENGINE, "hearthd"))
            .arg("--config")
            .arg(at("hearthd.toml"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut served = Self { dir, child };
        while UnixStream::connect(served.dir.path().join("hearthd.sock")).is_err() {
            let ended = served.child.try_wait().unwrap();
            assert!(ended.is_none(), "hearthd ended: {}", served.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        served
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("hearthd.log")).unwrap_or_default()
    }

    /// The status and the JSON of an answer.
    fn post(&self, path: &str, body: &Value) -> (String, Value) {
        let mut socket = UnixStream::connect(self.dir.path().join("hearthd.sock")).unwrap();
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body.as_bytes()).unwrap();
        let mut all = String::new();
        socket.read_to_string(&mut all).unwrap();
        let (head, body) = all.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {all}"));
        (status, body)
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, "200", "{path}: {answer}");
        answer
    }

    /// Unloads the model: the next answer can reuse nothing.
    fn forget(&self) {
        self.ask("/api/generate", &json!({"model": "real", "keep_alive": 0}));
    }

    /// The greedy answer to a text, computed without reuse.
    pub fn complete(&self, text: &str) -> Answer {
        self.complete_with(text, &json!([]))
    }

    /// The same with adapters.
    pub fn complete_with(&self, text: &str, lora: &Value) -> Answer {
        self.forget();
        let body = json!({"content": text, "add_special": true});
        let tokens = self.ask("/tokenize", &body)["tokens"].take();
        let prompt: Vec<i32> = serde_json::from_value(tokens).unwrap();
        let body = json!({
            "prompt": text, "max_tokens": TOKENS, "temperature": 0, "logprobs": 0, "lora": lora,
        });
        let mut answer = self.ask("/v1/completions", &body);
        let usage = &answer["usage"];
        assert_eq!(usage["prompt_tokens"], prompt.len(), "{usage}");
        let cached = &usage["prompt_tokens_details"]["cached_tokens"];
        assert_eq!(cached.as_u64().unwrap_or(0), 0, "it is to be cold");
        let choice = answer["choices"][0].take();
        Answer {
            prompt,
            text: choice["text"].as_str().unwrap().to_owned(),
            logprobs: numbers(&choice["logprobs"]["token_logprobs"]),
            ..Answer::default()
        }
    }

    /// The answer to the chat that a prompt comes from, which may be an error. Without
    /// the prompt cache, as llama-server is queried: with the cache, a prompt of a model
    /// with a sliding window is computed in parts that end where other prompts may
    /// diverge, and other parts result in other sums.
    pub fn chat(&self, prompt: &Prompt) -> Option<Value> {
        let mut body = prompt.chat.clone()?;
        self.forget();
        for (name, value) in [
            ("max_tokens", TOKENS.into()),
            ("temperature", 0.into()),
            ("logprobs", true.into()),
            ("cache_prompt", false.into()),
        ] {
            body[name] = value;
        }
        let (status, answer) = self.post("/v1/chat/completions", &body);
        Some(json!({"status": status, "answer": answer}))
    }
}

/// The floats, which JSON stores as doubles; none where no token was generated.
fn numbers(value: &Value) -> Vec<f32> {
    let all = value.as_array().into_iter().flatten();
    #[expect(clippy::cast_possible_truncation, reason = "they were floats")]
    all.map(|n| n.as_f64().unwrap() as f32).collect()
}

impl Drop for Served {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- hearthd said:\n{}", self.log());
        }
    }
}
