//! `simulate`.

use serde_json::Value;

use crate::harness::{accepted, run, stderr, stdout};

/// The service is not contacted; none is running.
#[test]
fn a_board_is_simulated_without_a_service() {
    let list = run(&["simulate", "--list"]);
    assert_eq!(list.status.code(), Some(0), "{}", stderr(&list));
    assert!(stdout(&list).contains("\npi4-poor "), "{}", stdout(&list));

    let dir = tempfile::tempdir().expect("a temporary folder");
    let plot = dir.path().join("plot.svg");
    let plot_arg = plot.to_str().expect("UTF-8");
    let args = [
        "simulate",
        "pi5-fan",
        "--ambient",
        "38",
        "--events",
        "fan-fails@10m,ambient-5@40m",
    ];
    let output = run(&[&args[..], &["--plot", plot_arg]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("The firmware alone yields"),
        "{}",
        stdout(&output)
    );
    accepted("xmllint", &["--noout"], &plot);

    let output = run(&[&args[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&stdout(&output)).expect("one document");
    assert_eq!(document["limit_celsius"], 80.0);
    assert!(
        document["governed"]["celsius_max"]
            .as_f64()
            .is_some_and(|t| t < 83.0)
    );

    let output = run(&["simulate", "pi5-fan", "--plot", "/nonexistent/plot.svg"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}
