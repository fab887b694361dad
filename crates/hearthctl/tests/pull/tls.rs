//! HTTPS: which certificates are trusted, and that a redirect to HTTP is not followed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{Home, run_failing, run_ok};
use crate::models::bytes;
use crate::not_checked::not_checked;
use crate::servers::{Answer, Request, Server};

/// Generates a key and a self-signed certificate for this computer.
fn certificate(folder: &Path) -> bool {
    let mut openssl = Command::new("openssl");
    openssl.current_dir(folder).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    openssl.output().is_ok_and(|output| output.status.success())
}

fn start(
    folder: &Path,
    handler: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
) -> Server {
    let cert = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let config = Arc::new(config);
    let wrap = move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        Some(StreamOwned::new(connection, stream))
    };
    Server::start_on(wrap, handler)
}

#[test]
fn only_certificates_that_the_system_trusts_are_accepted() {
    let home = Home::new();
    if !certificate(home.dir.path()) {
        not_checked("TLS: there is no openssl to make a certificate with");
        return;
    }
    let model = bytes(100_000, 1);
    let sent = model.clone();
    let server = start(home.dir.path(), move |request, _| match &*request.target {
        "/x.gguf" => Answer::file(request, &sent, "\"a\""),
        _ => Answer::redirect("http://127.0.0.1:1/x.gguf"),
    });
    let url = |path: &str| format!("https://localhost:{}{path}", server.port());
    let message = run_failing(home.pull(&url("/x.gguf"), &[]), 6);
    assert!(message.contains("certificate"), "{message}");

    let trusting = |path: &str| {
        let mut pull = home.pull(&url(path), &[]);
        pull.env("SSL_CERT_FILE", home.dir.path().join("cert.pem"));
        pull
    };
    run_ok(trusting("/x.gguf"));
    assert_eq!(home.result(), model);
    std::fs::remove_file(home.output()).unwrap();
    let message = run_failing(trusting("/redirected.gguf"), 6);
    assert!(message.contains("from https to http"), "{message}");
}
