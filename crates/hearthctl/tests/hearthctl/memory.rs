//! `fit` and `models --fit`.

use std::fs;

use hearth_gguf::synthetic::{Projector, make_projector};
use hearth_proto::FailureKind;
use serde_json::Value;

use crate::harness::{document, failure_kind, make_model, run, stderr, stdout, text};

#[test]
fn fit_estimates_without_a_service() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("half.gguf");
    let path = text(&file);
    make_model(&file, "4,256,512,4,2,4000", "f16");

    let fits = run(&["fit", path, "--memory", "500", "--context", "2048"]);
    assert_eq!(fits.status.code(), Some(0), "{}", stderr(&fits));
    let table = stdout(&fits);
    for part in ["weights", "KV cache", "2048 tokens", "total", "500.0 MiB"] {
        assert!(table.contains(part), "{part} in {table}");
    }

    let options = ["--memory", "500", "--kv-type", "q8_0", "--json"];
    let document = document(&[&["fit", path], &options[..]].concat());
    assert_eq!(document["fits"], true);
    assert_eq!(document["kv_type"], "q8_0");
    // Keys of 128 in blocks of 34 bytes, values in 16 bits, 4 blocks, 256 cells a step.
    assert_eq!(
        document["kv_bytes"]
            .as_u64()
            .map(|n| n % (4 * (136 + 256) * 256)),
        Some(0)
    );

    let small = run(&["fit", path, "--memory", "10"]);
    assert_eq!(small.status.code(), Some(4));
    assert!(stdout(&small).contains("total"));
    assert!(
        stderr(&small).contains("the model needs"),
        "{}",
        stderr(&small)
    );

    fs::write(&file, "GGUF and nothing else").expect("a file");
    let broken = run(&["--json", "fit", path]);
    assert_eq!(failure_kind(&broken), FailureKind::ModelInvalid);
    let unknown = run(&["--json", "fit", "no-such-model"]);
    assert_eq!(failure_kind(&unknown), FailureKind::ModelNotFound);
}

#[test]
fn a_projector_is_counted_with_its_model() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("eye.gguf");
    make_model(&file, "4,256,512,4,2,4000", "f16");
    let fit = || document(&["fit", text(&file), "--memory", "500", "--json"]);
    let alone = fit();
    assert_eq!(alone["projector_bytes"], 0);

    let shape = Projector::named("tiny-gemma3").expect("a shape");
    let path = dir.path().join("mmproj-eye.gguf");
    make_projector(&path, shape.for_width(256), 1).expect("a projector");
    let both = fit();
    let bytes = both["projector_bytes"].as_u64().expect("a number");
    let size = fs::metadata(&path).expect("a file").len();
    assert!(bytes >= size, "{bytes} for a file of {size}");
    let total = |document: &Value| document["total_bytes"].as_u64().expect("a number");
    assert_eq!(total(&both), total(&alone) + bytes);
    // One of another model is not counted.
    make_projector(&path, shape.for_width(320), 1).expect("a projector");
    assert_eq!(fit()["projector_bytes"], 0);
}

#[test]
fn models_that_fit_are_listed_without_a_service() {
    let table = run(&["models", "--fit", "--memory", "1500"]);
    assert_eq!(table.status.code(), Some(0), "{}", stderr(&table));
    let table = stdout(&table);
    let line = |name: &str| {
        table
            .lines()
            .find(|l| l.starts_with(name))
            .map(str::to_owned)
    };
    let small = line("qwen2.5-0.5b").expect("is in the catalogue");
    assert!(
        small.contains("Apache-2.0") && !small.contains("does not fit"),
        "{small}"
    );
    let large = line("qwen3-4b").expect("is in the catalogue");
    assert!(large.contains("does not fit"), "{large}");

    let document = document(&["models", "--fit", "--memory", "8000", "--json"]);
    let all = document.as_array().expect("a list");
    let largest = all
        .iter()
        .find(|m| m["name"] == "qwen3-4b")
        .expect("is there");
    assert_eq!(largest["fits"], true);
    assert_eq!(largest["approximate"], true);
    assert!(largest["context"].as_u64() >= Some(2048), "{largest}");
    assert!(
        largest["source"]
            .as_str()
            .is_some_and(|s| s.starts_with("hf:"))
    );

    let usage = run(&["models", "--memory", "1500"]);
    assert_eq!(usage.status.code(), Some(2));
}
