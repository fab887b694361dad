//! Downloaded and imported models, up to the answer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use crate::ctl_json::validate;
use crate::harness::{Daemon, error, ok};

#[path = "../../crates/hearthctl/tests/pull/models.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod models;
#[path = "../../crates/hearthctl/tests/pull/servers.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod servers;

use models::{demo, demo_path, sha256, split};
use servers::{Answer, Server};

fn ctl(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = daemon.ctl_command(args);
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "HF_TOKEN",
    ] {
        command.env_remove(name);
    }
    let home = daemon.dir.path();
    command
        .env("HOME", home)
        .env("XDG_CACHE_HOME", home.join("cache"));
    command
}

fn run(mut command: Command) -> String {
    ok(&command.output().unwrap())
}

fn answers(daemon: &Daemon, name: &str) {
    run(ctl(daemon, &["load", name]));
    let answer = ok(&daemon.call("Generate", &["s", "What is the capital of Italy?"]));
    assert!(answer.contains("Rome"), "{name}: {answer}");
}

fn kept(daemon: &Daemon) -> usize {
    let folder = daemon.dir.path().join("cache/hearthd/downloads");
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_pulled_model_answers() {
    let daemon = Daemon::real();
    let model = demo();
    let list = json!([{ "type": "file", "path": "demo-Q8_0.gguf", "size": model.len(),
        "lfs": { "oid": sha256(&model), "size": model.len() } }]);
    let server = Server::start(move |request, _| {
        if request.target.starts_with("/api/") {
            Answer::body(list.to_string())
        } else {
            Answer::file(request, &model, "\"a\"")
        }
    });
    let pull = |more: &[&str]| {
        let mut pull = ctl(&daemon, &["pull", "hf:org/repo"]);
        pull.args(more).env("HF_ENDPOINT", server.url(""));
        pull
    };
    run(pull(&[]));
    answers(&daemon, "demo-Q8_0");
    assert_eq!(kept(&daemon), 0, "what is imported is not kept twice");

    // A name that is taken is refused before the download.
    let before = server.seen().len();
    let said = error(&pull(&[]).output().unwrap());
    assert!(
        said.contains("already") && said.contains("--name"),
        "{said}"
    );
    assert_eq!(
        server.seen().len(),
        before + 1,
        "only the list was asked for"
    );
    let pulled = pull(&["--name", "mine", "--json"]).output().unwrap();
    assert_eq!(validate("pull", &pulled)[0]["imported"], "mine");
    answers(&daemon, "mine");
}

#[test]
fn a_download_is_kept_if_its_import_is_refused() {
    let daemon = Daemon::real();
    let server = Server::start(|request, _| {
        let cut = &demo()[..100_000];
        Answer::file(request, cut, "\"a\"")
    });
    let pull = ctl(&daemon, &["pull", &server.url("/cut.gguf")])
        .output()
        .unwrap();
    assert_eq!(pull.status.code(), Some(4));
    let said = error(&pull);
    assert!(
        said.contains("not a usable model") && said.contains("are kept in"),
        "{said}"
    );
    assert_eq!(kept(&daemon), 2, "the part and its state");
}

/// A daemon, and a folder for the files to be imported.
fn with_sources() -> (Daemon, PathBuf) {
    let daemon = Daemon::real();
    let dir = daemon.dir.path().join("sources");
    fs::create_dir_all(&dir).unwrap();
    (daemon, dir)
}

fn import(daemon: &Daemon, path: &Path, args: &[&str]) -> Output {
    let mut import = ctl(daemon, &["import"]);
    import.arg(path).args(args).output().unwrap()
}

/// Imports a model, which then answers under this name.
fn assert_imported(daemon: &Daemon, path: &Path, args: &[&str], name: &str) {
    ok(&import(daemon, path, args));
    answers(daemon, name);
    assert_eq!(kept(daemon), 0, "nothing is left in the cache");
}

#[test]
fn a_split_model_is_imported_by_its_first_part_or_its_folder() {
    let (daemon, dir) = with_sources();
    let parts = dir.join("parts");
    fs::create_dir_all(&parts).unwrap();
    for (n, part) in split(&demo(), 2).iter().enumerate() {
        fs::write(parts.join(format!("many-{:05}-of-00002.gguf", n + 1)), part).unwrap();
    }
    let first = parts.join("many-00001-of-00002.gguf");
    assert_imported(&daemon, &first, &[], "many");
    assert_imported(&daemon, &parts, &["--name", "from-folder"], "from-folder");
}

#[test]
fn a_model_is_imported_from_a_llamafile() {
    let (daemon, dir) = with_sources();
    let executable = dir.join("demo.llamafile");
    fs::write(
        &executable,
        llamafile(&[("inside.Q8_0.gguf", &demo()), (".args", b"-m")]),
    )
    .unwrap();
    assert_imported(&daemon, &executable, &[], "inside.Q8_0");

    let packed = dir.join("packed.llamafile");
    fs::write(&packed, archive(&[("notes.txt", b"")])).unwrap();
    let said = error(&import(&daemon, &packed, &[]));
    assert!(said.contains("contains no model"), "{said}");
}

#[test]
fn a_model_is_imported_from_the_store_of_ollama() {
    let (daemon, dir) = with_sources();
    let store = dir.join("ollama/models");
    let digest = sha256(&demo());
    let blobs = store.join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::copy(demo_path(), blobs.join(format!("sha256-{digest}"))).unwrap();
    let manifest = json!({ "schemaVersion": 2, "layers": [{
        "mediaType": "application/vnd.ollama.image.model",
        "digest": format!("sha256:{digest}"), "size": demo().len() }] });
    for tag in ["library/tiny/1b", "library/tiny/latest", "me/mine/x"] {
        let path = store.join("manifests/registry.ollama.ai").join(tag);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, manifest.to_string()).unwrap();
    }
    assert_imported(&daemon, &dir.join("ollama"), &["tiny:1b"], "tiny:1b");
    assert_imported(&daemon, &store, &["tiny"], "tiny");
    let said = error(&import(&daemon, &store, &[]));
    assert!(
        said.contains("tiny:1b") && said.contains("registry.ollama.ai/me/mine:x"),
        "{said}"
    );
}

#[test]
fn a_model_is_imported_from_the_cache_of_hugging_face() {
    let (daemon, dir) = with_sources();
    let hub = dir.join("hub");
    let repo = hub.join("models--org--repo");
    let snapshot = repo.join("snapshots/0123abc");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("blobs")).unwrap();
    fs::copy(demo_path(), repo.join("blobs/abc")).unwrap();
    symlink("../../blobs/abc", snapshot.join("cached-Q8_0.gguf")).unwrap();
    assert_imported(&daemon, &hub, &[], "cached-Q8_0");
}

/// An executable followed by a zip archive.
fn llamafile(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = b"MZqFpD='\n".to_vec();
    file.resize(10_000, b'x');
    file.extend(archive(entries));
    file
}

/// A zip archive of uncompressed entries, written from the specification (PKWARE,
/// APPNOTE.TXT 6.3, section 4.3): the crate that reads it in hearthctl is not the judge of
/// itself, and stays out of the daemon's dependencies.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let offset = u32::try_from(archive.len()).unwrap();
        let name_length = u16::try_from(name.len()).unwrap();
        let size = u32::try_from(bytes.len()).unwrap();
        // Version 1.0, no flags, stored, 1 January 1980.
        let mut common: Vec<u8> = [10u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat();
        common.extend([crc32(bytes), size, size].map(u32::to_le_bytes).concat());
        common.extend([name_length, 0].map(u16::to_le_bytes).concat());
        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(name.bytes());
        archive.extend(*bytes);
        directory.extend(b"PK\x01\x02\x0a\0");
        directory.extend(&common);
        // No comment, disk 0, no attributes.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let (count, offset) = (u16::try_from(entries.len()).unwrap(), archive.len());
    let directory_size = u32::try_from(directory.len()).unwrap();
    archive.extend(directory);
    archive.extend(b"PK\x05\x06");
    archive.extend([0, 0, count, count].map(u16::to_le_bytes).concat());
    archive.extend(directory_size.to_le_bytes());
    archive.extend(u32::try_from(offset).unwrap().to_le_bytes());
    archive.extend([0; 2]);
    archive
}

/// CRC-32 (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}
