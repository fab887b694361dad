//! Rules of the house that no compiler knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and their floors (ARCHITECTURE.md). A room may use rooms below
/// it, never beside it.
const FLOORS: &[(&str, u32)] = &[
    ("config", 1),
    ("models", 2),
    ("service", 3),
    ("dbus", 4),
    ("http", 4),
    ("app", 5),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

fn room(file: &Path) -> Option<String> {
    let inside = file
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// Rooms named after `crate::` in code, be it one path or a braced list.
fn used(text: &str) -> Vec<String> {
    let word = |s: &str| {
        s.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let code: String = text
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut rooms = Vec::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split("};").next().unwrap_or_default();
            rooms.extend(list.split(',').map(|part| word(part.trim())));
        } else {
            rooms.push(word(rest));
        }
    }
    rooms
}

#[test]
fn imports_point_down() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let Some(from) = room(&file) else { continue };
        if from == "bin" || from == "lib" {
            continue;
        }
        let floor = floors
            .get(from.as_str())
            .unwrap_or_else(|| panic!("{from} has no floor: {}", file.display()));
        for to in used(&fs::read_to_string(&file).unwrap()) {
            let Some(below) = floors.get(to.as_str()) else {
                continue;
            };
            let down = below < floor;
            if to != from && !down {
                wrong.push(format!("{}: {from} uses {to}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that do not point down:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn an_upward_import_would_be_seen() {
    assert_eq!(used("use crate::service::Service;"), ["service"]);
    assert_eq!(used("use crate::{dbus, http};"), ["dbus", "http"]);
    assert_eq!(used("    let x = crate::app::run();"), ["app"]);
    assert!(used("/// see [`crate::app`]").is_empty());
}
