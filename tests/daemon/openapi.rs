//! The description of the endpoints (docs/api/openapi.yaml) against the real daemon.

use std::collections::BTreeSet;
use std::fs;

use crate::clients::{listening, run_with};
use crate::harness::{Setup, root};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn every_response_matches_its_description() {
    let (_daemon, url) = listening(Setup {
        config: "[dbus]\nmodel_admins = \"group\"\n",
        ..Setup::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display().to_string();
    run_with("use_openapi.py", &[&url, &folder, "fake"]);
}

#[test]
fn exactly_the_existing_routes_are_described() {
    let sources = ["mod", "anthropic", "llama_server", "ollama"];
    let sources = sources.map(|name| read(&format!("src/http/{name}.rs")));
    // A long route has a line for each argument.
    let words: Vec<&str> = sources.iter().flat_map(|s| s.split_whitespace()).collect();
    let sources = words.join(" ").replace(".route( \"", ".route(\"");
    let routes: BTreeSet<(&str, &str)> = sources
        .split(".route(\"")
        .skip(1)
        .map(|rest| {
            let (path, rest) = rest.split_once("\", ").unwrap();
            (path, rest.split_once('(').unwrap().0)
        })
        .collect();
    assert!(routes.len() > 20, "{routes:?}");

    let description = read("docs/api/openapi.yaml");
    let mut described = BTreeSet::new();
    let mut path = "";
    for line in description.lines() {
        let key = line.trim_start().strip_suffix(':').unwrap_or_default();
        match line.len() - line.trim_start().len() {
            2 => path = key,
            4 if path.starts_with('/') => _ = described.insert((path, key)),
            _ => {}
        }
    }
    assert_eq!(routes, described);
    let version = concat!("\n  version: ", env!("CARGO_PKG_VERSION"), "\n");
    assert!(description.contains(version), "{version}");
}

#[test]
fn the_documented_client_versions_are_those_tested() {
    let set = |file: &str| read(&format!("tests/clients/{file}"));
    let python = ["requirements", "frameworks"];
    let locks = python.map(|name| set(&format!("{name}.txt"))).concat();
    let locked_npm = set("npm/package-lock.json");
    let http = read("docs/api/http.md");
    let (_, table) = http.split_once("| Client | Version |").unwrap();
    let rows = table.lines().skip(2);
    let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
    for row in &rows {
        let name = row.split('`').nth(1).unwrap();
        let version = row.split(" | ").nth(1).unwrap();
        let pin = format!("\n{name}=={version} ");
        let pin_npm = format!("\"node_modules/{name}\": {{\n      \"version\": \"{version}\"");
        assert!(
            locks.contains(&pin) || locked_npm.contains(&pin_npm),
            "{row}"
        );
    }
    // What is asked for by name is in the table, except the tools of other tests.
    let tools = [
        "dbus-fast",
        "gguf",
        "mcp",
        "playwright",
        "pyyaml",
        "schemathesis",
        "transformers",
    ];
    let asked = python.map(|name| set(&format!("{name}.in"))).concat();
    for client in asked.lines().filter(|line| !tools.contains(line)) {
        let name = client.split(['=', '[']).next().unwrap();
        let row = format!("| `{name}`");
        assert!(
            rows.iter().any(|known| known.starts_with(&row)),
            "no row {row}"
        );
    }
}
