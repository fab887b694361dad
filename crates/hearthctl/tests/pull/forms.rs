//! The servers of Hugging Face and Ollama, and models in several files.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use crate::executables::beside;
use crate::harness::{Home, run, run_failing, run_ok};
use crate::models::{bytes, demo, sha256, split};
use crate::servers::{Answer, Server};

/// A Hugging Face repository: its list in two pages, its files on another host.
struct Repository {
    api: Server,
    files: Arc<Server>,
}

impl Repository {
    fn start(files: Vec<(String, Vec<u8>)>) -> Self {
        let entry = |(path, bytes): &(String, Vec<u8>)| {
            let lfs = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134 });
            json!({ "type": "file", "oid": "x", "size": bytes.len(), "path": path, "lfs": lfs })
        };
        let mut entries: Vec<_> = files.iter().map(entry).collect();
        entries.push(json!({ "type": "directory", "oid": "x", "size": 0, "path": "folder" }));
        entries.push(json!({ "type": "file", "oid": "x", "size": 5, "path": "README.md" }));
        let store = Server::start(move |request, _| {
            let wanted = request.target.trim_start_matches("/cdn/");
            let found = files.iter().find(|(path, _)| path == wanted);
            found.map_or(Answer::status(404), |(_, bytes)| {
                Answer::file(request, bytes, "\"a\"")
            })
        });
        let store = Arc::new(store);
        let cdn = Arc::clone(&store);
        let api = Server::start(move |request, _| {
            let list = "/api/models/org/repo/tree/main?recursive=true";
            if request.target == list {
                let first = json!(entries[..1]).to_string();
                let next = format!("<{list}&cursor=2>; rel=\"next\"");
                return Answer::body(first).with("Link", &next);
            }
            if request.target == format!("{list}&cursor=2") {
                return Answer::body(json!(entries[1..]).to_string());
            }
            let file = request.target.strip_prefix("/org/repo/resolve/main/");
            file.map_or(Answer::status(404), |file| {
                Answer::redirect(&cdn.url(&format!("/cdn/{file}")))
            })
        });
        Self { api, files: store }
    }

    fn pull(&self, home: &Home, reference: &str) -> Command {
        let mut pull = home.pull(reference, &[]);
        pull.env("HF_ENDPOINT", self.api.url(""))
            .env("HF_TOKEN", "hf_secret");
        pull
    }
}

fn several() -> Vec<(String, Vec<u8>)> {
    [
        ("a-Q8_0.gguf", 1),
        ("a-Q4_0.gguf", 2),
        ("a-Q4_K_M.gguf", 3),
        ("mmproj-a-F16.gguf", 4),
    ]
    .map(|(name, seed)| (name.to_owned(), bytes(50_000, seed)))
    .to_vec()
}

#[test]
fn the_preferred_file_is_chosen_and_the_token_stays_on_its_host() {
    let files = several();
    let repository = Repository::start(files.clone());
    let home = Home::new();
    run_ok(repository.pull(&home, "hf:org/repo"));
    assert_eq!(home.result(), files[2].1);
    let secret = Some("Bearer hf_secret");
    let asked = repository.api.seen();
    assert_eq!(asked.len(), 4, "two pages, the file and its projector");
    assert!(asked.iter().all(|r| r.header("authorization") == secret));
    let fetched = repository.files.seen();
    assert_eq!(fetched.len(), 2);
    assert!(fetched.iter().all(|r| r.header("authorization").is_none()));
}

#[test]
fn the_quantization_or_the_file_can_be_given() {
    let files = several();
    let repository = Repository::start(files.clone());
    for (reference, n) in [
        ("hf:org/repo:q8_0".to_owned(), 0),
        ("hf:org/repo:a-Q4_0.gguf".to_owned(), 1),
        (repository.api.url("/org/repo/blob/main/a-Q4_0.gguf"), 1),
    ] {
        let home = Home::new();
        run_ok(repository.pull(&home, &reference));
        assert_eq!(home.result(), files[n].1, "{reference}");
    }
    let home = Home::new();
    let message = run_failing(repository.pull(&home, "hf:org/repo:Q2_K"), 4);
    assert!(
        message.contains("no Q2_K; it has: Q4_0, Q4_K_M, Q8_0"),
        "{message}"
    );
    let message = run_failing(repository.pull(&home, "hf:org/other"), 4);
    assert!(message.contains("no such file"), "{message}");
}

#[test]
fn a_wrong_digest_in_the_list_is_detected() {
    let files = several();
    let list = json!([{ "type": "file", "path": "a.gguf", "size": 50_000,
        "lfs": { "oid": "0".repeat(64), "size": 50_000 } }]);
    let server = Server::start(move |request, _| {
        if request.target.starts_with("/api/") {
            Answer::body(list.to_string())
        } else {
            Answer::file(request, &files[0].1, "\"a\"")
        }
    });
    let home = Home::new();
    let mut pull = home.pull("hf:org/repo", &[]);
    pull.env("HF_ENDPOINT", server.url(""));
    assert!(run_failing(pull, 4).contains("was deleted"));
}

#[test]
fn a_name_of_the_catalogue_resolves_to_its_source() {
    let model = bytes(50_000, 5);
    let list = json!([{ "type": "file", "path": "SmolLM2-135M-Instruct-Q8_0.gguf",
        "size": 50_000, "lfs": { "oid": sha256(&model), "size": 50_000 } }]);
    let sent = model.clone();
    let server = Server::start(move |request, _| {
        let repo = "bartowski/SmolLM2-135M-Instruct-GGUF";
        if request.target == format!("/api/models/{repo}/tree/main?recursive=true") {
            return Answer::body(list.to_string());
        }
        Answer::file(request, &sent, "\"a\"")
    });
    let home = Home::new();
    let mut pull = home.pull("smollm2-135m", &["--json"]);
    pull.env("HF_ENDPOINT", server.url(""));
    let output = run(pull);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["size_bytes"], 50_000);
    assert_eq!(document["sha256"], sha256(&model));
    assert_eq!(document["path"], json!(home.output()));
    assert_eq!(home.result(), model);
}

#[test]
fn a_tag_of_a_registry_resolves_to_its_model() {
    let model = bytes(50_000, 6);
    let digest = format!("sha256:{}", sha256(&model));
    let blob = format!("/v2/library/tiny/blobs/{digest}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": { "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": "sha256:0", "size": 1 },
        "layers": [
            { "mediaType": "application/vnd.ollama.image.template", "digest": "sha256:1", "size": 1 },
            { "mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": 50_000 },
            { "mediaType": "application/vnd.ollama.image.adapter", "digest": "sha256:2", "size": 1 },
        ],
    });
    let sent = model.clone();
    let server = Server::start(move |request, _| {
        if request.target == "/v2/library/tiny/manifests/1b" {
            return Answer::body(manifest.to_string());
        }
        if request.target == blob {
            return Answer::file(request, &sent, "\"a\"");
        }
        Answer::status(404)
    });
    let home = Home::new();
    let host = format!("127.0.0.1:{}", server.port());
    let message = run_ok(home.pull(&format!("ollama:{host}/library/tiny:1b"), &[]));
    assert!(message.contains("adapter"), "{message}");
    assert_eq!(home.result(), model);
    let accept = server.seen()[0].header("accept").map(str::to_owned);
    assert!(accept.is_some_and(|a| a.contains("manifest.v2+json")));
    fs::remove_file(home.output()).unwrap();
    let message = run_failing(home.pull(&format!("ollama:{host}/library/tiny:2b"), &[]), 4);
    assert!(message.contains("no such file"), "{message}");
}

/// Loads a file with llama.cpp.
fn check(path: &std::path::Path) {
    let output = Command::new(beside(env!("CARGO_BIN_EXE_hearthctl"), "hearth-engine"))
        .arg("check")
        .arg(path)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(message.contains("\"ok\":true"), "{message}");
}

#[test]
fn a_model_in_several_files_is_merged() {
    let model = demo();
    let parts = split(&model, 3);
    let name = |n: usize| format!("demo-Q8_0-{:05}-of-00003.gguf", n + 1);
    let files = parts.iter().enumerate().map(|(n, p)| (name(n), p.clone()));
    let repository = Repository::start(files.collect());
    let home = Home::new();
    run_ok(repository.pull(&home, "hf:org/repo"));
    check(&home.output());
    assert!(
        home.result() == model,
        "bit for bit the file that was split"
    );
    assert!(home.kept().is_empty(), "{:?}", home.kept());

    // The same by a URL, whose name implies the others.
    let home = Home::new();
    run_ok(home.pull(&repository.files.url(&format!("/cdn/{}", name(0))), &[]));
    assert!(home.result() == model);
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let (a, b) = (split(&demo(), 2), split(&demo(), 3));
    let mut cut = a[1].clone();
    cut.truncate(cut.len() - 100);
    let cases = [
        (vec![a[0].clone(), b[1].clone()], "part 2 is not one"),
        (vec![a[1].clone(), a[0].clone()], "part 1 is not one"),
        (vec![a[0].clone(), cut], "cut off"),
        (vec![a[0].clone(), b"GGUF and nothing".to_vec()], "part 2"),
    ];
    for (parts, words) in cases {
        let name = |n: usize| format!("x-{:05}-of-00002.gguf", n + 1);
        let files = parts.into_iter().enumerate().map(|(n, p)| (name(n), p));
        let repository = Repository::start(files.collect());
        let home = Home::new();
        let message = run_failing(repository.pull(&home, "hf:org/repo"), 4);
        assert!(message.contains(words), "{words}: {message}");
        assert!(!home.output().exists());
    }
}

#[test]
fn errors_list_the_models_of_folders_and_llamafiles() {
    let home = Home::new();
    let folder = home.dir.path().join("models");
    fs::create_dir_all(folder.join("sub")).unwrap();
    let import = |more: &[&str]| {
        let mut import = home.ctl(&["import"]);
        import.arg(&folder).args(more);
        import
    };
    assert!(run_failing(import(&[]), 4).contains("contains no model"));
    fs::write(folder.join("a.gguf"), bytes(100, 1)).unwrap();
    fs::write(folder.join("sub/b.gguf"), bytes(100, 2)).unwrap();
    fs::write(folder.join("sub/c-00002-of-00002.gguf"), bytes(100, 3)).unwrap();
    let message = run_failing(import(&[]), 2);
    assert!(
        message.contains("a.gguf\n  sub/b.gguf") && !message.contains("c-0"),
        "{message}"
    );
    let message = run_failing(import(&["d"]), 4);
    assert!(
        message.contains("contains no \"d\"") && message.contains("sub/b.gguf"),
        "{message}"
    );
    // The reference is resolved: the next error is the missing service.
    run_failing(import(&["b"]), 3);

    let file = folder.join("x.llamafile");
    fs::write(&file, "MZ and no archive").unwrap();
    let mut import = home.ctl(&["import"]);
    import.arg(&file);
    assert!(run_failing(import, 4).contains("cannot read the archive"));
}
