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
fn early_refusals_reach_clients_that_are_still_sending() {
    let (config, _dir) = with_token();
    let (_daemon, url) = listening(Setup {
        config: config.leak(),
        ..Setup::default()
    });
    let address = url.strip_prefix("http://").unwrap();
    let body = vec![b'x'; 60_000];
    for (path, host, status) in [
        ("/v1/chat/completions", "localhost", "401"),
        ("/v1/chat/completions", "evil.example", "403"),
    ] {
        for n in 0..50 {
            let mut stream = TcpStream::connect(address).unwrap();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
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
