//! `imatrix`, `quantize`, `evaluate` and `advise`, one after the other.

use std::fs;
use std::path::Path;

use hearth_proto::FailureKind;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{accepted, document, failure_kind, make_model, run, stderr, stdout, text};
use crate::quantize::folder;

#[test]
fn a_model_is_quantized_evaluated_and_chosen() {
    let (dir, model) = folder();
    let path = |name: &str| dir.path().join(name);
    let (matrix, q4, q8) = (path("m.imatrix"), path("q4_0.gguf"), path("q8_0.gguf"));
    fs::write(
        path("text"),
        "Something to read, over and over again. ".repeat(60),
    )
    .expect("a text");

    let made = document(&[
        "imatrix",
        text(&model),
        text(&path("text")),
        "-o",
        text(&matrix),
        "--context",
        "128",
        "--json",
    ]);
    assert_eq!(made["matrices"], 14, "{made}");
    assert_eq!(made["chunk_tokens"], 128);
    let shrunk = document(&[
        "quantize",
        text(&model),
        text(&q4),
        "--type",
        "q4_0",
        "--imatrix",
        text(&matrix),
        "--json",
    ]);
    assert_eq!(shrunk["ran"], true);
    assert_eq!(
        shrunk["bytes_after"],
        fs::metadata(&q4).expect("made").len()
    );
    let output = run(&["quantize", text(&model), text(&q8), "--type", "Q8_0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("BITS/WEIGHT"),
        "{}",
        stdout(&output)
    );

    let figures = evaluate(&dir, &model, &q4, &q8);
    advise(&dir, &figures, &q4, &q8);
}

/// The divergence of a model from the reference.
fn mean_divergence(figures: &Value, n: usize) -> f64 {
    let mean = &figures["models"][n]["text"]["divergence"]["mean"];
    mean.as_f64().expect("a number")
}

fn evaluate(dir: &TempDir, model: &Path, q4: &Path, q8: &Path) -> Value {
    let path = |name: &str| dir.path().join(name);
    let questions = path("questions.jsonl");
    let question = json!({
        "id": "one", "messages": [{"role": "user", "content": "?"}], "tools": null,
        "accept": ["no model of random weights says this"],
    });
    fs::write(&questions, format!("{question}\n\n")).expect("questions");
    let plot = path("plot.svg");
    let models = [text(q4), text(model), text(q8)];
    let options = ["--context", "128", "--runs", "1", "--json"];
    let files = ["--questions", text(&questions), "--plot", text(&plot)];
    let figures = document(&[&["evaluate"], &models[..], &options[..], &files[..]].concat());
    assert_eq!(
        figures["reference"],
        text(model),
        "the largest is the reference"
    );
    let models = figures["models"].as_array().expect("a list");
    let order: Vec<&str> = models.iter().filter_map(|m| m["path"].as_str()).collect();
    assert_eq!(order, [text(model), text(q4), text(q8)]);
    assert!(models[0]["text"]["divergence"].is_null());
    let [near, far] = [2, 1].map(|n| mean_divergence(&figures, n));
    assert!(near > 0.0 && far > 10.0 * near, "{models:?}");
    for model in models {
        let above = |value: &Value, least: f64| value.as_f64().is_some_and(|v| v > least);
        assert!(above(&model["text"]["perplexity"], 1.0), "{model}");
        assert_eq!(model["accuracy"]["of"], 1);
        assert_eq!(model["accuracy"]["wrong"][0], "one");
        assert!(
            above(&model["speed"]["decode_tokens_per_s"], 0.0),
            "{model}"
        );
        let mib = 1_048_576.0;
        assert!(above(&model["speed"]["resident_bytes"], mib), "{model}");
    }
    accepted("xmllint", &["--noout"], &plot);
    assert!(fs::read_to_string(&plot).expect("a plot").contains("q4_0"));
    figures
}

fn advise(dir: &TempDir, figures: &Value, q4: &Path, q8: &Path) {
    let path = |name: &str| dir.path().join(name);
    let file = path("figures.json");
    fs::write(&file, figures.to_string()).expect("figures");
    let advice = document(&["advise", "--from", text(&file), "--memory", "500", "--json"]);
    let small = if mean_divergence(figures, 1) < 0.01 {
        q4
    } else {
        q8
    };
    assert_eq!(advice["chosen"], text(small), "{advice}");
    assert!(
        advice["why"]
            .as_str()
            .is_some_and(|why| why.contains("of 3 that fit")),
        "{advice}"
    );
    let output = run(&["advise", "--from", text(&file), "--memory", "1"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("none of the files fits"),
        "{}",
        stderr(&output)
    );
    let output = run(&["advise", text(q4), text(q8), "--memory", "500"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("<- recommended"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn other_vocabularies_are_compared_per_byte() {
    let (dir, model) = folder();
    let other = dir.path().join("other.gguf");
    make_model(&other, "2,64,128,2,1,300", "q8_0");
    let output = run(&[
        "evaluate",
        text(&model),
        text(&other),
        "--runs",
        "0",
        "--context",
        "64",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("PER BYTE"), "{}", stdout(&output));
    assert!(stderr(&output).contains("other has no divergence: its vocabulary has 300 tokens"));
    assert!(stderr(&output).contains("the text included in hearthctl"));
}

#[test]
fn errors_in_figures_and_questions_name_the_line() {
    let (dir, model) = folder();
    let file = dir.path().join("lines");
    for (lines, says) in [
        ("{\"id\": 1}", "line 1"),
        (
            "\n{\"id\": \"a\", \"messages\": []}",
            "line 2: it has no messages",
        ),
        (
            "{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"?\"}]}",
            "it needs `accept`",
        ),
        ("", "contains no questions"),
    ] {
        fs::write(&file, lines).expect("written");
        let output = run(&["evaluate", text(&model), "--questions", text(&file)]);
        assert_eq!(output.status.code(), Some(2), "{lines}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    let output = run(&["advise", "--from", text(&file)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("evaluate --json"),
        "{}",
        stderr(&output)
    );
    fs::write(&file, "short").expect("written");
    let output = run(&["evaluate", text(&model), "--text", text(&file), "--json"]);
    assert_eq!(failure_kind(&output), FailureKind::InvalidArgs);
    assert!(stdout(&output).contains("5 tokens"), "{}", stdout(&output));
}
