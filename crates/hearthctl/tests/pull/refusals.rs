//! Refusals by servers, and responses of servers that are refused.

use std::fs;
use std::sync::Arc;

use hearth_proto::FailureKind;

use crate::harness::{Home, run, run_failing, run_ok};
use crate::models::{bytes, sha256};
use crate::servers::{Answer, Server};

fn good() -> (Arc<Vec<u8>>, Server) {
    let model = Arc::new(bytes(100_000, 1));
    let sent = Arc::clone(&model);
    let server = Server::start(move |request, _| Answer::file(request, &sent, "\"a\""));
    (model, server)
}

#[test]
fn a_wrong_digest_deletes_the_file() {
    let (model, server) = good();
    let home = Home::new();
    let wrong = "0".repeat(64);
    let message = run_failing(home.pull(&server.url("/x.gguf"), &["--sha256", &wrong]), 4);
    assert!(
        message.contains("was deleted") && message.contains(&sha256(&model)),
        "{message}"
    );
    assert!(home.kept().is_empty() && !home.output().exists());
    let document = run(home.pull(&server.url("/x.gguf"), &["--sha256", &wrong, "--json"]));
    let document: serde_json::Value = serde_json::from_slice(&document.stdout).unwrap();
    let kind = format!("{:?}", FailureKind::ModelInvalid);
    assert_eq!(document["error"]["kind"], kind);
}

#[test]
fn a_missing_digest_is_noted() {
    let (model, server) = good();
    let home = Home::new();
    let message = run_ok(home.pull(&server.url("/x.gguf"), &[]));
    assert!(message.contains("--sha256"), "{message}");
    assert_eq!(home.result(), *model);
}

#[test]
fn retry_after_is_obeyed() {
    let model = Arc::new(bytes(100_000, 2));
    let sent = Arc::clone(&model);
    let server = Server::start(move |request, before| match before {
        0 => Answer::status(429).with("Retry-After", "1"),
        1 => Answer::status(503),
        _ => Answer::file(request, &sent, "\"a\""),
    });
    let home = Home::new();
    let message = run_ok(home.pull(&server.url("/x.gguf"), &[]));
    assert!(
        message.contains("429") && message.contains("in 1 s") && message.contains("503"),
        "{message}"
    );
    assert_eq!(home.result(), *model);

    let server = Server::start(|_, _| Answer::status(429).with("Retry-After", "3600"));
    let message = run_failing(home.pull(&server.url("/y.gguf"), &[]), 2);
    assert!(message.contains("is not replaced"), "{message}");
    fs::remove_file(home.output()).unwrap();
    let message = run_failing(home.pull(&server.url("/y.gguf"), &[]), 6);
    assert!(message.contains("try again in 60 min"), "{message}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn refusals_are_explained_and_not_retried() {
    let home = Home::new();
    for (status, code, words) in [
        (404, 4, "no such file"),
        (401, 6, "set HF_TOKEN"),
        (403, 6, "accept its conditions"),
        (418, 6, "returned 418"),
    ] {
        let server = Server::start(move |_, _| Answer::status(status));
        let message = run_failing(home.pull(&server.url("/x.gguf"), &[]), code);
        assert!(message.contains(words), "{status}: {message}");
        assert_eq!(server.seen().len(), 1, "{status} is not retried");
        assert!(home.kept().is_empty(), "{status}");
    }
}

#[test]
fn an_unreachable_server_is_reported() {
    let home = Home::new();
    let none = "http://127.0.0.1:1/x.gguf";
    let message = run_failing(home.pull(none, &["--retries", "0"]), 6);
    assert!(
        message.contains("cannot reach 127.0.0.1") && message.contains("online"),
        "{message}"
    );
    let output = run(home.pull(none, &["--retries", "0", "--json"]));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "Network");
    assert_eq!(output.stderr, b"");
}

#[test]
fn a_web_page_is_refused() {
    let server = Server::start(|_, _| Answer::body("<!doctype html>"));
    let home = Home::new();
    let message = run_failing(home.pull(&server.url("/x.gguf"), &[]), 4);
    assert!(message.contains("not send a GGUF file"), "{message}");
    assert!(home.kept().is_empty());
}

#[test]
fn a_size_that_differs_from_the_list_is_refused() {
    let model = bytes(1000, 3);
    let list = format!(
        "[{{\"type\":\"file\",\"path\":\"x.gguf\",\"size\":999,\"lfs\":{{\"oid\":\"{}\",\"size\":999}}}}]",
        sha256(&model)
    );
    let server = Server::start(move |request, _| {
        if request.target.starts_with("/api/") {
            return Answer::body(list.clone());
        }
        Answer::file(request, &model, "\"a\"")
    });
    let home = Home::new();
    let mut pull = home.pull("hf:org/repo", &[]);
    pull.env("HF_ENDPOINT", server.url(""));
    let message = run_failing(pull, 6);
    assert!(
        message.contains("1000 bytes, but the list states 999"),
        "{message}"
    );
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let (model, server) = good();
    let home = Home::new();
    let mut pull = home.pull("http://models.invalid/x.gguf", &[]);
    pull.env("HTTP_PROXY", server.url(""));
    run_ok(pull);
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[0].target, "http://models.invalid/x.gguf");

    // HTTPS goes through the proxy as a tunnel, which this one does not support.
    fs::remove_file(home.output()).unwrap();
    let mut pull = home.pull("https://models.invalid/x.gguf", &["--retries", "0"]);
    pull.env("HTTPS_PROXY", server.url(""));
    run_failing(pull, 6);
    assert_eq!(server.seen()[1].target, "models.invalid:443");

    let mut pull = home.pull(&server.url("/y.gguf"), &[]);
    pull.env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("NO_PROXY", "127.0.0.1");
    run_ok(pull);
    assert_eq!(server.seen()[2].target, "/y.gguf");
}

#[test]
fn redirects_are_limited() {
    let server = Server::start(|_, _| Answer::redirect("/again.gguf"));
    let home = Home::new();
    let message = run_failing(home.pull(&server.url("/x.gguf"), &[]), 6);
    assert!(message.contains("too many redirects"), "{message}");
}

#[test]
fn wrong_usage_is_refused_before_any_request() {
    let home = Home::new();
    for reference in [
        "no-such-name",
        "hf:repo",
        "ollama:",
        "ftp://h/x.gguf",
        "a/b",
    ] {
        let message = run_failing(home.pull(reference, &[]), 2);
        assert!(message.contains("hf:ORG/REPO"), "{reference}: {message}");
    }
    let message = run_failing(home.pull("hf:a/b", &["--sha256", "12"]), 2);
    assert!(message.contains("64 hexadecimal digits"), "{message}");
    let message = run_failing(home.pull("hf:a/b", &["--sha256", &"a".repeat(64)]), 2);
    assert!(message.contains("only for a URL"), "{message}");
    let mut pull = home.ctl(&["pull", "hf:a/b", "--output", "/nonexistent/x.gguf"]);
    pull.env("HF_ENDPOINT", "http://127.0.0.1:1");
    assert!(run_failing(pull, 2).contains("no such directory"));
    let message = run_failing(home.ctl(&["pull", "hf:a/b"]), 3);
    assert!(message.contains("systemctl status hearthd"), "{message}");
}
