//! Files that are not models: a clear failure or a crash of the process, never a hang.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use hearth_proto::{Failure, FailureKind};

use crate::ENGINE;
use crate::harness::{Engine, load, tiny_model, wait};

/// No file here is larger than a megabyte.
const PATIENCE: Duration = Duration::from_mins(1);

/// The result of a check: the failure, `Ok` for a usable model, or `None` where a signal
/// ended the process.
fn check(path: &Path) -> Option<Result<(), Failure>> {
    let mut child = Process::new(ENGINE)
        .arg("check")
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let Some(status) = wait(&mut child, PATIENCE) else {
        child.kill().unwrap();
        panic!("checking {} hangs", path.display());
    };
    let code = status.code()?;
    let line: serde_json::Value = serde_json::from_reader(child.stdout.take().unwrap()).unwrap();
    assert_eq!(line["ok"], code == 0, "{line}");
    Some(if code == 0 {
        Ok(())
    } else {
        Err(serde_json::from_value(line["failure"].clone()).unwrap())
    })
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let name = format!("bad-{name}-{}.gguf", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A GGUF header with these counts and rest.
fn header(tensors: u64, values: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(values.to_le_bytes());
    bytes.extend(rest);
    bytes
}

#[test]
fn a_good_model_passes() {
    assert_eq!(check(tiny_model()), Some(Ok(())));
}

#[test]
fn what_is_no_gguf_is_named_so() {
    let missing = check(Path::new("/nonexistent/m.gguf"))
        .unwrap()
        .unwrap_err();
    assert_eq!(missing.kind, FailureKind::ModelNotFound);
    assert!(missing.message.contains("/nonexistent/m.gguf"));
    for (name, bytes, says) in [
        ("empty", &b""[..], "it is empty"),
        ("text", b"<html>404 Not Found", "starts with \"<htm\""),
        ("short", b"GG", "starts with \"GG\""),
    ] {
        let path = file(name, bytes);
        let failure = check(&path).unwrap().unwrap_err();
        assert_eq!(failure.kind, FailureKind::ModelInvalid, "{name}");
        assert!(failure.message.contains(says), "{failure}");
        assert!(failure.message.contains(path.to_str().unwrap()));
        // The same over the socket.
        let mut engine = Engine::start(&[]);
        assert_eq!(engine.load(&load(&path)).unwrap_err(), failure);
        assert!(engine.wait(PATIENCE).success());
        fs::remove_file(path).unwrap();
    }
    let folder = check(Path::new("/tmp")).unwrap().unwrap_err();
    assert_eq!(folder.kind, FailureKind::ModelInvalid);
}

#[test]
fn a_truncated_model_fails_wherever_it_was_cut() {
    let whole = fs::read(tiny_model()).unwrap();
    let mut cuts: Vec<usize> = (1..16).map(|n| whole.len() * n / 16).collect();
    cuts.extend([4, 8, 16, 23, 24, 25, 100, 1000, 5000, whole.len() - 1]);
    for cut in cuts {
        let path = file("cut", &whole[..cut]);
        let failure = check(&path).expect("died").unwrap_err();
        assert_eq!(failure.kind, FailureKind::ModelInvalid, "cut at {cut}");
        // It contains llama.cpp's own message.
        assert!(
            failure.message.contains("load") || failure.message.contains("gguf"),
            "{failure}"
        );
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn absurd_headers_never_hang() {
    let long_key = [&u64::MAX.to_le_bytes()[..], b"general"].concat();
    let mut array = 5u64.to_le_bytes().to_vec();
    array.extend(b"a.key\x09\0\0\0\x04\0\0\0");
    array.extend((u64::MAX / 8).to_le_bytes());
    let mut whole = fs::read(tiny_model()).unwrap();
    let no_blocks = {
        let key = b"llama.block_count";
        let at = whole.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 4;
        whole[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        whole
    };
    for (name, bytes) in [
        ("tensors", header(u64::MAX, 1, &[])),
        ("many-tensors", header(1 << 40, 0, &[0; 64])),
        ("values", header(0, u64::MAX, &[0; 64])),
        ("many-values", header(0, 1 << 40, &[0; 64])),
        ("key", header(0, 1, &long_key)),
        ("array", header(0, 1, &array)),
        ("nothing", header(0, 0, &[])),
        ("version", b"GGUF\xff\xff\xff\xff".to_vec()),
        ("blocks", no_blocks),
    ] {
        let path = file(name, &bytes);
        match check(&path) {
            Some(result) => {
                let failure = result.expect_err(name);
                assert_eq!(failure.kind, FailureKind::ModelInvalid, "{name}: {failure}");
            }
            None => println!("{name}: the checking process died, as its parent can see"),
        }
        fs::remove_file(path).unwrap();
    }
}
