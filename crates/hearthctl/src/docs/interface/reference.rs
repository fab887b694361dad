//! The reference of the D-Bus interface as Markdown, `docs/api/org.hearthd.Inference1.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hearth_proto::bus::{ERRORS, NAME, PATH};

use super::{INTERFACES, KINDS, parse};

const INTRODUCTION: &str = "\
# Reference of `org.hearthd.Inference1`

Generated from the comments of the service, which `busctl introspect --xml-interface` shows, too;
a test compares it with the running service. [dbus.md](dbus.md) explains how the parts belong
together.
";

fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (xml, below) in INTERFACES {
        let (name, members) = parse(xml);
        _ = writeln!(text, "\n## `{name}`\n\nObject `{PATH}{below}`.");
        for (kind, title) in KINDS {
            let of_kind: Vec<_> = members.iter().filter(|m| m.kind == kind).collect();
            if of_kind.is_empty() {
                continue;
            }
            _ = writeln!(text, "\n### {title} of `{name}`\n");
            for member in of_kind {
                let doc = member.doc.split_whitespace();
                let doc = doc.collect::<Vec<_>>().join(" ");
                _ = writeln!(text, "- **`{}`**: {doc}", member.signature());
            }
        }
    }
    _ = writeln!(
        text,
        "\n## Errors\n\nTheir names begin with `{NAME}.Error.`:\n"
    );
    for (kind, meaning) in ERRORS {
        _ = writeln!(text, "- **`{kind:?}`**: {meaning}");
    }
    text
}

/// `HEARTH_UPDATE=1` writes the file.
#[test]
fn the_reference_is_that_of_the_interface() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join(format!("docs/api/{NAME}.md"));
    let expected = reference();
    if std::env::var_os("HEARTH_UPDATE").is_some() {
        fs::write(&file, &expected).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(written, expected, "run the tests once with HEARTH_UPDATE=1");
}
