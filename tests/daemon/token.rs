//! The token that requests over TCP require.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::clients::{listening, run_with};
use crate::harness::{Daemon, Setup, ok, text, until};

const CHAT: &str = r#"{"messages":[{"role":"user","content":"hello"}]}"#;

fn write(path: &Path, token: &str, mode: u32) {
    fs::write(path, token).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A daemon on TCP that requires a token, and its file.
fn asking(token: &str) -> (Daemon, String, PathBuf, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    write(&file, token, 0o600);
    let config = format!("token_file = {file:?}\n");
    let (daemon, url) = listening(Setup {
        config: config.leak(),
        ..Setup::default()
    });
    (daemon, url, file, dir)
}

/// Sends a request over TCP: the status, the head in lower case and the body.
fn ask(url: &str, path: &str, token: Option<&str>, body: Option<&str>) -> (String, String, String) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-i", "--noproxy", "*", "--max-time", "120"]);
    if let Some(token) = token {
        curl.args(["-H", &format!("Authorization: {token}")]);
    }
    if let Some(body) = body {
        curl.args(["-d", body]);
    }
    let all = ok(&curl.arg(format!("{url}{path}")).output().unwrap());
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status.to_owned(), head.to_lowercase(), body.to_owned())
}

#[test]
fn requests_over_tcp_need_the_token() {
    let (daemon, url, file, _dir) = asking("first-token\n");
    let chat = "/v1/chat/completions";
    let status = |path: &str, token| ask(&url, path, token, None).0;
    for (token, expected) in [
        (None, "401"),
        (Some("Bearer wrong-token"), "401"),
        (Some("Bearer first-toke"), "401"),
        (Some("Bearer first-token "), "200"),
        (Some("bearer first-token"), "200"),
        (Some("Basic first-token"), "401"),
        (Some("Bearer "), "401"),
    ] {
        assert_eq!(ask(&url, chat, token, Some(CHAT)).0, expected, "{token:?}");
        assert_eq!(status("/metrics", token), expected, "{token:?}");
        assert_eq!(status("/", token), "200");
    }
    let (_, head, body) = ask(&url, chat, None, Some(CHAT));
    assert!(head.contains("\r\nwww-authenticate: bearer\r\n"), "{head}");
    let error: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(error["error"]["code"], "access_denied", "{body}");
    let (_, head, body) = ask(&url, "/api/tags", Some("Bearer x"), None);
    assert!(
        head.contains("www-authenticate: bearer error=\"invalid_token\""),
        "{head}"
    );
    assert!(body.starts_with("{\"error\":\"a token"), "{body}");

    // Without a token, only the health status is visible.
    assert_eq!(ask(&url, "/health", None, None).2, "{\"status\":\"ok\"}");
    let told = ask(&url, "/health", Some("Bearer first-token"), None).2;
    assert!(told.contains("\"service\":{"), "{told}");
    // The Unix socket identifies the user.
    assert!(daemon.chat(CHAT)["choices"].is_array());

    write(&file, "second-token", 0o600);
    daemon.signal(Signal::SIGHUP);
    until("the new token holds", || {
        status("/metrics", Some("Bearer second-token")) == "200"
    });
    assert_eq!(status("/metrics", Some("Bearer first-token")), "401");
    write(&file, "", 0o600);
    daemon.signal(Signal::SIGHUP);
    until("the empty file is refused", || {
        daemon.log().contains("is empty: ")
    });
    assert_eq!(status("/metrics", Some("Bearer second-token")), "200");
    assert_eq!(status("/metrics", Some("Bearer ")), "401");
    assert!(!daemon.log().contains("second-token"), "{}", daemon.log());
}

#[test]
fn refusals_have_the_form_of_the_clients_api() {
    let (_daemon, url, _file, _dir) = asking("a-token");
    for (path, header, status, kind) in [
        ("/v1/models", "X: y", 401, "authentication_error"),
        (
            "/v1/models/x",
            "X-Api-Key: wrong",
            401,
            "authentication_error",
        ),
        ("/v1/models", "Host: evil.example", 403, "permission_error"),
        ("/v1/models/x", "X-Api-Key: a-token", 404, "not_found_error"),
    ] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "60"]);
        curl.args(["-w", " %{http_code}", "-H", header]);
        curl.args(["-H", "anthropic-version: 2023-06-01"]);
        let all = ok(&curl.arg(format!("{url}{path}")).output().unwrap());
        let (body, code) = all.rsplit_once(' ').unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(code, status.to_string(), "{all}");
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&"error".into(), &kind.into())
        );
    }
}

#[test]
fn client_libraries_send_the_token_as_their_key() {
    let (_daemon, url, _file, _dir) = asking("a-token.of~this+board/0=");
    run_with("use_token.py", &[&url, "a-token.of~this+board/0="]);
}

#[test]
fn an_invalid_token_file_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (config, token) = (dir.path().join("hearthd.toml"), dir.path().join("token"));
    let start = |named: &str, credentials: Option<&Path>| {
        fs::write(&config, format!("[http]\ntoken_file = {named:?}\n")).unwrap();
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_hearthd"));
        daemon.arg("--check-config").arg("--config").arg(&config);
        daemon
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null());
        if let Some(folder) = credentials {
            daemon.env("CREDENTIALS_DIRECTORY", folder);
        }
        let output = daemon.output().unwrap();
        (output.status.success(), text(&output.stderr))
    };
    let path = token.to_str().unwrap();
    for (content, mode, part) in [
        ("", 0o600, "is empty"),
        ("two words", 0o600, "only the token"),
        ("secret", 0o644, "chmod o-rw"),
    ] {
        write(&token, content, mode);
        let (is_fine, said) = start(path, None);
        assert!(!is_fine && said.contains(part), "{said}");
        assert!(said.starts_with("`http.token_file`: "), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    write(&token, "secret", 0o640);
    assert_eq!(start(path, None), (true, String::new()));
    assert_eq!(start("token", Some(dir.path())), (true, String::new()));
    for (named, part) in [
        ("token", "LoadCredential=token:"),
        ("/nonexistent", "cannot read /nonexistent"),
        ("x/token", "hearthd.toml:2: token_file = \"x/token\""),
    ] {
        let (is_fine, said) = start(named, None);
        assert!(!is_fine && said.contains(part), "{said}");
    }
}
