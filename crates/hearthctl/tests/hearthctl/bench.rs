//! `bench model` and `bench shape`.

use std::fs;

use hearth_proto::FailureKind;

use crate::harness::{document, failure_kind, make_model, run, stderr, text};

#[test]
fn bench_measures_a_model_without_a_service() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("tiny.gguf");
    let path = text(&file);
    make_model(&file, "2,64,128,2,1,300", "f16");
    let result = document(&["bench", "model", path, "--runs", "1", "--json"]);
    for speed in ["load_ms", "prefill_tokens_per_s", "decode_tokens_per_s"] {
        assert!(result[speed].as_f64().is_some_and(|s| s > 0.0), "{result}");
    }

    fs::write(&file, "GGUF and nothing more").expect("written");
    let broken = run(&["bench", "model", path, "--json"]);
    assert_eq!(broken.status.code(), Some(4), "{}", stderr(&broken));
    assert_eq!(failure_kind(&broken), FailureKind::ModelInvalid);
}

#[test]
fn a_shape_is_measured_without_a_model() {
    let result = document(&[
        "bench",
        "shape",
        "demo",
        "--type",
        "q4_0",
        "--threads",
        "1,2",
        "--runs",
        "1",
        // Together fewer than a context has sequences.
        "--prompt-tokens",
        "4",
        "--tokens",
        "2",
        "--json",
    ]);
    let rows = result["rows"].as_array().expect("a list");
    assert_eq!(rows.len(), 2);
    for row in rows {
        for key in [
            "prefill_tokens_per_s",
            "decode_tokens_per_s",
            "read_bytes_per_s",
            "share_of_limit",
        ] {
            assert!(row[key].as_f64().is_some_and(|n| n > 0.0), "{key} in {row}");
        }
    }
    assert_eq!(
        result["weight_bytes"], result["bytes_per_token"],
        "tied embeddings"
    );
    let output = run(&["bench", "shape", "gpt-5"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("llama-3.2-1b"),
        "{}",
        stderr(&output)
    );
    let output = run(&["bench", "shape", "demo", "--type", "q9"]);
    assert_eq!(output.status.code(), Some(2));
}
