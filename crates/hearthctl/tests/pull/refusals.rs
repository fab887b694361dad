//! Refusals by servers, and responses of servers that are refused.

use std::fs;
use std::sync::Arc;

use crate::harness::{Home, ill, run, well};
use crate::models::{bytes, sha256};
use crate::servers::{Answer, Server};

fn good() -> (Arc<Vec<u8>>, Server) {
    let model = Arc::new(bytes(100_000, 1));
    let sent = Arc::clone(&model);
    let server = Server::start(move |request, _| Answer::file(request, &sent, "\"a\""));
    (model, server)
}

#[test]
fn a_wrong_digest_deletes_the_file_and_says_so() {
    let (model, server) = good();
    let home = Home::new();
    let wrong = "0".repeat(64);
    let said = ill(home.pull(&server.url("/x.gguf"), &["--sha256", &wrong]), 4);
    assert!(
        said.contains("was deleted") && said.contains(&sha256(&model)),
        "{said}"
    );
    assert!(home.kept().is_empty() && !home.output().exists());
    let document = run(home.pull(&server.url("/x.gguf"), &["--sha256", &wrong, "--json"]));
    let document: serde_json::Value = serde_json::from_slice(&document.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "ModelInvalid");
}

#[test]
fn without_a_digest_that_is_said() {
    let (model, server) = good();
    let home = Home::new();
    let said = well(home.pull(&server.url("/x.gguf"), &[]));
    assert!(said.contains("--sha256"), "{said}");
    assert_eq!(home.result(), *model);
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let model = Arc::new(bytes(100_000, 2));
    let sent = Arc::clone(&model);
    let server = Server::start(move |request, before| match before {
        0 => Answer::status(429).with("Retry-After", "1"),
        1 => Answer::status(503),
        _ => Answer::file(request, &sent, "\"a\""),
    });
    let home = Home::new();
    let said = well(home.pull(&server.url("/x.gguf"), &[]));
    assert!(
        said.contains("429") && said.contains("in 1 s") && said.contains("503"),
        "{said}"
    );
    assert_eq!(home.result(), *model);

    let server = Server::start(|_, _| Answer::status(429).with("Retry-After", "3600"));
    let said = ill(home.pull(&server.url("/y.gguf"), &[]), 2);
    assert!(said.contains("is not replaced"), "{said}");
    fs::remove_file(home.output()).unwrap();
    let said = ill(home.pull(&server.url("/y.gguf"), &[]), 6);
    assert!(said.contains("try again in 60 min"), "{said}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn what_is_not_there_or_not_open_is_said_clearly() {
    let home = Home::new();
    for (status, code, words) in [
        (404, 4, "no such file"),
        (401, 6, "set HF_TOKEN"),
        (403, 6, "accept its conditions"),
        (418, 6, "returned 418"),
    ] {
        let server = Server::start(move |_, _| Answer::status(status));
        let said = ill(home.pull(&server.url("/x.gguf"), &[]), code);
        assert!(said.contains(words), "{status}: {said}");
        assert_eq!(server.seen().len(), 1, "{status} does not pass");
        assert!(home.kept().is_empty(), "{status}");
    }
}

#[test]
fn nobody_there_is_said_clearly() {
    let home = Home::new();
    let none = "http://127.0.0.1:1/x.gguf";
    let said = ill(home.pull(none, &["--retries", "0"]), 6);
    assert!(
        said.contains("cannot reach 127.0.0.1") && said.contains("online"),
        "{said}"
    );
    let output = run(home.pull(none, &["--retries", "0", "--json"]));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "Network");
    assert_eq!(output.stderr, b"");
}

#[test]
fn a_page_is_no_model() {
    let server = Server::start(|_, _| Answer::body("<!doctype html>"));
    let home = Home::new();
    let said = ill(home.pull(&server.url("/x.gguf"), &[]), 4);
    assert!(said.contains("not send a GGUF file"), "{said}");
    assert!(home.kept().is_empty());
}

#[test]
fn a_server_that_sends_more_than_it_lists_is_not_believed() {
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
    let said = ill(pull, 6);
    assert!(said.contains("1000 bytes instead of the 999"), "{said}");
}

#[test]
fn a_proxy_is_used_where_the_environment_says_so() {
    let (model, server) = good();
    let home = Home::new();
    let mut pull = home.pull("http://models.invalid/x.gguf", &[]);
    pull.env("HTTP_PROXY", server.url(""));
    well(pull);
    assert_eq!(home.result(), *model);
    assert_eq!(server.seen()[0].target, "http://models.invalid/x.gguf");

    // HTTPS goes through the proxy as a tunnel, which this one does not support.
    fs::remove_file(home.output()).unwrap();
    let mut pull = home.pull("https://models.invalid/x.gguf", &["--retries", "0"]);
    pull.env("HTTPS_PROXY", server.url(""));
    ill(pull, 6);
    assert_eq!(server.seen()[1].target, "models.invalid:443");

    let mut pull = home.pull(&server.url("/y.gguf"), &[]);
    pull.env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("NO_PROXY", "127.0.0.1");
    well(pull);
    assert_eq!(server.seen()[2].target, "/y.gguf");
}

#[test]
fn redirects_have_an_end() {
    let server = Server::start(|_, _| Answer::redirect("/again.gguf"));
    let home = Home::new();
    let said = ill(home.pull(&server.url("/x.gguf"), &[]), 6);
    assert!(said.contains("too many redirects"), "{said}");
}

#[test]
fn wrong_usage_is_seen_before_anything_is_asked() {
    let home = Home::new();
    for reference in [
        "no-such-name",
        "hf:repo",
        "ollama:",
        "ftp://h/x.gguf",
        "a/b",
    ] {
        let said = ill(home.pull(reference, &[]), 2);
        assert!(said.contains("hf:ORG/REPO"), "{reference}: {said}");
    }
    let said = ill(home.pull("hf:a/b", &["--sha256", "12"]), 2);
    assert!(said.contains("64 hexadecimal digits"), "{said}");
    let said = ill(home.pull("hf:a/b", &["--sha256", &"a".repeat(64)]), 2);
    assert!(said.contains("only for a URL"), "{said}");
    let mut pull = home.ctl(&["pull", "hf:a/b", "--output", "/nonexistent/x.gguf"]);
    pull.env("HF_ENDPOINT", "http://127.0.0.1:1");
    assert!(ill(pull, 2).contains("no such directory"));
    let said = ill(home.ctl(&["pull", "hf:a/b"]), 3);
    assert!(said.contains("systemctl status hearthd"), "{said}");
}
