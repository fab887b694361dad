//! Manual pages and completions.

use std::fs;

use crate::COMMANDS;
use crate::harness::{accepted, run, stderr};

#[test]
fn there_is_a_manual_page_for_every_command() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = run(&["generate-man", dir.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut pages = vec!["hearthctl.1".to_owned()];
    pages.extend(COMMANDS.map(|command| format!("hearthctl-{command}.1")));
    for page in &pages {
        let path = dir.path().join(page);
        let text = fs::read_to_string(&path).expect(page);
        assert!(text.contains(".TH hearthctl"), "{page}");
        accepted("man", &["--warnings", "-l"], &path);
    }
    // The other pages are those of the output with --json and of the D-Bus interface.
    let json = dir.path().join("hearthctl-json.5");
    let text = fs::read_to_string(&json).expect("the page of the output");
    assert!(text.contains("\n.SS count\\-tokens\n"), "{text}");
    accepted("man", &["--warnings", "-l"], &json);
    let interface = dir.path().join("org.hearthd.Inference1.5");
    let text = fs::read_to_string(&interface).expect("the interface's page");
    assert!(text.contains("\n.B OpenSession("), "{text}");
    accepted("man", &["--warnings", "-l"], &interface);
    let files = fs::read_dir(dir.path()).expect("the folder").count();
    assert_eq!(files, pages.len() + 2, "no page for hidden commands");
}

#[test]
fn the_shells_accept_the_completions() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = run(&["generate-completions", dir.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for (shell, file) in [
        ("bash", "hearthctl.bash"),
        ("zsh", "_hearthctl"),
        ("fish", "hearthctl.fish"),
    ] {
        let path = dir.path().join(file);
        let text = fs::read_to_string(&path).expect(file);
        assert!(text.contains("count-tokens"), "{file}");
        accepted(shell, &["-n"], &path);
    }
}

#[test]
fn documentation_needs_a_folder() {
    for command in ["generate-man", "generate-completions"] {
        let output = run(&[command, "/nonexistent/folder"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
    }
}
