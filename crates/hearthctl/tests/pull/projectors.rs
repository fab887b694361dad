//! Projectors are downloaded with their models.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hearth_gguf::synthetic::{Projector, Storage, make, make_projector};
use serde_json::{Value, json};

use crate::harness::{Home, run, run_failing, run_ok};
use crate::models::sha256;
use crate::servers::{Answer, Fault, Server};

const MODEL: &str = "eye-Q4_K_M.gguf";
const PROJECTOR: &str = "mmproj-eye-f16.gguf";

/// A model, and a projector for text models with embeddings of this width.
fn files(text_width: u32) -> [(&'static str, Vec<u8>); 2] {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = "1,64,64,2,1,300".parse().unwrap();
    make(&at(MODEL), text, Storage::Q4KM, 1, &mut |_, _| ()).unwrap();
    let shape = Projector::named("tiny-gemma3").unwrap();
    make_projector(&at(PROJECTOR), shape.for_width(text_width), 1).unwrap();
    [MODEL, PROJECTOR].map(|name| (name, fs::read(at(name)).unwrap()))
}

/// A repository with these files; the first request for a projector has a fault.
fn repository(files: &[(&'static str, Vec<u8>)], digest: Option<&str>, fault: Fault) -> Server {
    let entry = |(path, bytes): &(&str, Vec<u8>)| {
        let digest = digest.filter(|_| *path == PROJECTOR);
        let digest = digest.map_or_else(|| sha256(bytes), str::to_owned);
        json!({ "type": "file", "path": path, "size": bytes.len(),
            "lfs": { "oid": digest, "size": bytes.len() } })
    };
    let list = json!(files.iter().map(entry).collect::<Value>()).to_string();
    let files = files.to_vec();
    Server::start(move |request, before| {
        let found = files
            .iter()
            .find(|(name, _)| request.target.ends_with(*name));
        match found {
            None => Answer::body(list.clone()),
            // The list and the model come before it.
            Some((PROJECTOR, bytes)) if before == 2 => {
                Answer::file(request, bytes, "\"a\"").but(fault)
            }
            Some((_, bytes)) => Answer::file(request, bytes, "\"a\""),
        }
    })
}

fn pull(home: &Home, server: &Server, more: &[&str]) -> Command {
    let mut pull = home.pull("hf:org/repo", more);
    pull.env("HF_ENDPOINT", server.url(""));
    pull
}

/// Where the projector of `model.gguf` is written.
fn output(home: &Home) -> PathBuf {
    home.dir.path().join("mmproj-model.gguf")
}

#[test]
fn a_projector_is_downloaded_beside_its_model_and_resumed() {
    let files = files(64);
    let half = files[1].1.len() / 2;
    let server = repository(&files, None, Fault::Cut(half));
    let home = Home::new();
    let message = run_ok(pull(&home, &server, &[]));
    assert!(message.contains("with its projector"), "{message}");
    assert_eq!(home.result(), files[0].1);
    assert_eq!(fs::read(output(&home)).unwrap(), files[1].1);
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen[3].target.ends_with(PROJECTOR));
    assert_eq!(seen[3].range(), Some(half));
    assert!(home.kept().is_empty(), "{:?}", home.kept());

    fs::remove_file(home.output()).unwrap();
    let message = run_failing(pull(&home, &server, &[]), 2);
    assert!(message.contains("mmproj-model.gguf already"), "{message}");
    fs::remove_file(output(&home)).unwrap();
    let output = run(pull(&home, &server, &["--json"]));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["size_bytes"], files[0].1.len());
    assert_eq!(document["projector_bytes"], files[1].1.len());
}

#[test]
fn a_projector_can_be_left_out() {
    let files = files(64);
    let server = repository(&files, None, Fault::None);
    let home = Home::new();
    let message = run_ok(pull(&home, &server, &["--no-projector"]));
    assert!(!message.contains("projector"), "{message}");
    assert_eq!(home.result(), files[0].1);
    assert!(!output(&home).exists());
    assert_eq!(server.seen().len(), 2, "the list and the model");
}

#[test]
fn a_projector_with_a_wrong_digest_is_detected() {
    let files = files(64);
    let server = repository(&files, Some(&"0".repeat(64)), Fault::None);
    let home = Home::new();
    let message = run_failing(pull(&home, &server, &[]), 4);
    assert!(message.contains(PROJECTOR) && message.contains("was deleted"));
    assert!(!home.output().exists() && !output(&home).exists());
    assert_eq!(home.part_length(), files[0].1.len() as u64);
}

#[test]
fn a_projector_of_another_model_is_left_out() {
    let files = files(96);
    let server = repository(&files, None, Fault::None);
    let home = Home::new();
    let message = run_ok(pull(&home, &server, &[]));
    assert!(message.contains("96") && message.contains("left out"));
    assert_eq!(home.result(), files[0].1);
    assert!(!output(&home).exists());
    assert!(home.kept().is_empty(), "{:?}", home.kept());
}

#[test]
fn the_projector_of_a_tag_is_downloaded() {
    let files = files(64);
    let layer = |media: &str, bytes: &[u8]| {
        json!({ "mediaType": format!("application/vnd.ollama.image.{media}"),
            "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len() })
    };
    let layers = [layer("projector", &files[1].1), layer("model", &files[0].1)];
    let manifest = json!({ "schemaVersion": 2, "layers": layers }).to_string();
    let sent = files.clone();
    let server = Server::start(move |request, _| {
        let digest = request.target.rsplit(':').next().unwrap_or_default();
        let blob = sent.iter().find(|(_, bytes)| sha256(bytes) == digest);
        blob.map_or(Answer::body(manifest.clone()), |(_, bytes)| {
            Answer::file(request, bytes, "\"a\"")
        })
    });
    let home = Home::new();
    let host = format!("127.0.0.1:{}", server.port());
    run_ok(home.pull(&format!("ollama:{host}/library/eye"), &[]));
    assert_eq!(home.result(), files[0].1);
    assert_eq!(fs::read(output(&home)).unwrap(), files[1].1);
}
