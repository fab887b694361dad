//! The documented default file, rendered from the doc comments in the code.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Config;

/// Width of the comment text; with `# ` it stays below 80 columns.
const WIDTH: usize = 76;

/// Renders `config/hearthd.toml`: every key with its documentation, commented out
/// at its default; a table of which there may be many, as an example.
pub fn render_default() -> String {
    let mut settings = SchemaSettings::default();
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<Config>();
    let schema = schema.as_value();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();

    let mut out = String::new();
    comment(&mut out, &description(schema));
    for (section, keys) in properties(schema) {
        out.push('\n');
        comment(&mut out, &description(keys));
        let (keys, values) = if keys["items"].is_object() {
            _ = writeln!(out, "#[[{section}]]");
            (&keys["items"], &keys["items"]["examples"][0])
        } else {
            _ = writeln!(out, "[{section}]");
            (keys, &defaults[section])
        };
        for (key, doc) in properties(keys) {
            comment(&mut out, &description(doc));
            _ = writeln!(out, "#{key} = {}", literal(&values[key]));
        }
    }
    out
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn description(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .replace('\n', " ")
}

fn literal(value: &Value) -> String {
    match value {
        // An f32 printed as f64 has additional digits (0.05 -> 0.05000000074…).
        #[expect(clippy::cast_possible_truncation, reason = "it was an f32")]
        Value::Number(n) if n.is_f64() => format!("{:?}", n.as_f64().unwrap_or_default() as f32),
        other => other.to_string(),
    }
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            _ = writeln!(out, "# {line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        _ = writeln!(out, "# {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PrewarmConfig, load::Layer, parse_layers};
    use super::*;

    #[test]
    fn every_key_is_documented_and_uncommenting_all_gives_the_defaults() {
        let text = render_default();
        let uncommented: String = text
            .lines()
            .map(|l| match l.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{l}\n"),
            })
            .collect();
        let layer = Layer {
            path: "rendered".into(),
            text: uncommented,
        };
        let expected = Config {
            prewarm: vec![PrewarmConfig::example()],
            ..Config::default()
        };
        assert_eq!(parse_layers(&[layer]).unwrap(), expected);

        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            if line.starts_with('[') || line.starts_with('#') && !line.starts_with("# ") {
                assert!(
                    lines[n - 1].starts_with("# "),
                    "no documentation above {line:?}"
                );
            }
        }
    }

    #[test]
    fn the_shipped_file_is_the_rendered_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/hearthd.toml");
        if std::env::var_os("HEARTH_UPDATE").is_some() {
            std::fs::write(path, render_default()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            render_default(),
            "run the tests once with HEARTH_UPDATE=1"
        );
    }
}
