//! Browsers and proxies on the TCP socket: cross-origin requests, and answers to requests
//! that are refused before their body was read.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::clients::listening;
use crate::harness::{Setup, ok};

const EDITOR: &str = "vscode-webview://0a1b2c";

/// Sends a request by curl: the head in lower case.
fn head(url: &str, arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-i", "--noproxy", "*", "--max-time", "60"]);
    let all = ok(&curl.args(arguments).arg(url).output().unwrap());
    all.split_once("\r\n\r\n").unwrap().0.to_lowercase()
}

/// The configuration of a daemon that requires a token, and the folder with the token.
fn with_token() -> (String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "a-token").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    (format!("token_file = {file:?}\n"), dir)
}

#[test]
fn an_editor_reads_answers_with_the_token_and_other_sites_do_not() {
    let (config, _dir) = with_token();
    let (_daemon, url) = listening(Setup {
        config: config.leak(),
        ..Setup::default()
    });
    let models = format!("{url}/v1/models");
    let preflight = [
        "-X",
        "OPTIONS",
        "-H",
        "Access-Control-Request-Method: POST",
        "-H",
        "Access-Control-Request-Headers: authorization,content-type",
    ];
    let origin = format!("Origin: {EDITOR}");
    let allowed = head(&models, &[&preflight[..], &["-H", &origin]].concat());
    for part in [
        format!("access-control-allow-origin: {EDITOR}\r\n"),
        "access-control-allow-headers: authorization,content-type".to_owned(),
    ] {
        assert!(allowed.contains(&part), "{allowed}");
    }
    let token = ["-H", "Authorization: Bearer a-token", "-H", &origin];
    let answer = head(&models, &token);
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("access-control-allow-origin: {EDITOR}")));
    let shown = "access-control-expose-headers: retry-after,request-id,x-hearthd-not-enforced";
    assert!(answer.contains(shown), "{answer}");
    // The script can read why it is refused.
    let refused = head(&models, &["-H", &origin]);
    assert!(refused.starts_with("http/1.1 401"), "{refused}");
    assert!(refused.contains(&format!("access-control-allow-origin: {EDITOR}")));

    let evil = [&preflight[..], &["-H", "Origin: https://evil.example"]].concat();
    let evil = head(&models, &evil);
    assert!(evil.starts_with("http/1.1 403"), "{evil}");
    assert!(!evil.contains("access-control"), "{evil}");
}

#[test]
fn preflights_of_local_pages_and_applications_are_answered_and_the_token_is_required() {
    let (config, _dir) = with_token();
    let (_daemon, url) = listening(Setup {
        config: config.leak(),
        ..Setup::default()
    });
    let chat = format!("{url}/v1/chat/completions");
    let ask = [
        "-X",
        "OPTIONS",
        "-H",
        "Access-Control-Request-Method: POST",
        "-H",
        "Access-Control-Request-Headers: x-api-key",
    ];
    for origin in [
        "http://localhost:3000",
        "https://localhost",
        "http://127.0.0.1:8080",
        "http://[::1]:5173",
        "app://obsidian.md",
        "tauri://localhost",
        "vscode-webview://0a1b",
        "chrome-extension://abcdef",
        "moz-extension://0a1b",
    ] {
        let header = format!("Origin: {origin}");
        let answer = head(&chat, &[&ask[..], &["-H", &header]].concat());
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        for part in [
            format!("access-control-allow-origin: {origin}\r\n"),
            "access-control-allow-headers: x-api-key\r\n".to_owned(),
        ] {
            assert!(answer.contains(&part), "{part}: {answer}");
        }
        let refused = head(&chat, &["-d", "{}", "-H", &header]);
        assert!(refused.starts_with("http/1.1 401"), "{refused}");
        let key = ["-d", "{}", "-H", &header, "-H", "X-Api-Key: a-token"];
        let invalid = head(&chat, &key);
        assert!(invalid.starts_with("http/1.1 400"), "{invalid}");
    }
}

#[test]
fn the_host_names_this_machine_in_any_case() {
    let (_daemon, url) = listening(Setup {
        config: "hosts = [\"proxy.example\"]\n",
        ..Setup::default()
    });
    let health = format!("{url}/health");
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for (host, status) in [
        ("LocalHost:11434", "200"),
        (&name, "200"),
        (&format!("{}.LOCAL:1", name.to_uppercase()), "200"),
        ("Host.Docker.Internal", "200"),
        ("PROXY.example:80", "200"),
        ("evil.example", "403"),
        ("127.0.0.1.evil.example", "403"),
    ] {
        let answer = head(&health, &["-H", &format!("Host: {host}")]);
        let expected = format!("http/1.1 {status}");
        assert!(answer.starts_with(&expected), "{host}: {answer}");
    }
    for (arguments, status) in [
        (&["--http1.0", "-H", "Host:"][..], "200"),
        (&["-H", "Host:"], "403"),
    ] {
        let answer = head(&health, arguments);
        assert!(
            answer.split(' ').nth(1) == Some(status),
            "{arguments:?}: {answer}"
        );
    }
}

#[test]
fn early_refusals_reach_clients_that_are_still_sending() {
    let (config, _dir) = with_token();
    let (_daemon, url) = listening(Setup {
        config: config.leak(),
        ..Setup::default()
    });
    let address = url.strip_prefix("http://").unwrap();
    let body = vec![b'x'; 60_000];
    let key = "X-Api-Key: a-token";
    for (path, host, token, status) in [
        ("/v1/chat/completions", "localhost", "X: y", "401"),
        ("/v1/chat/completions", "evil.example", key, "403"),
        ("/v1/nothing", "localhost", key, "404"),
        ("/v1/models", "localhost", key, "405"),
    ] {
        for n in 0..50 {
            let mut stream = TcpStream::connect(address).unwrap();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\n{token}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let sent = stream.write_all(head.as_bytes()).and_then(|()| {
                body.chunks(6_000)
                    .try_for_each(|part| stream.write_all(part))
            });
            let mut answer = String::new();
            let read = stream.read_to_string(&mut answer);
            assert!(
                sent.is_ok() && read.is_ok(),
                "{status}, {n}: {sent:?} {read:?}"
            );
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{n}: {answer}"
            );
        }
    }
}
