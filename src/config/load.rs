//! Layers of TOML into one checked [`Config`].

use std::ops::Range;
use std::path::PathBuf;

use super::Config;
use super::check::{check, check_prewarm};

/// One file of the configuration, already read.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Where it came from, for messages.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// A configuration that cannot be used: the place, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {message}", path.display(), line.map(|n| format!(":{n}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, where the parser knows it.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub message: String,
}

/// Merges the layers in their order and checks the result. A later layer overrides an
/// earlier one key by key; arrays of tables are concatenated.
///
/// # Errors
/// The first file with broken TOML, an unknown key, a value of the wrong type or
/// out of range.
pub fn parse_layers(layers: &[Layer]) -> Result<Config, ConfigError> {
    let mut merged = toml::Table::new();
    for layer in layers {
        // Each layer is checked by itself first: the merged table has no line numbers.
        let parsed: Config = toml::from_str(&layer.text).map_err(|e| describe(layer, &e))?;
        check(&parsed).map_err(|(key, message)| ConfigError {
            path: layer.path.clone(),
            line: line_of_key(&layer.text, key),
            message,
        })?;
        check_prewarm(&parsed.prewarm).map_err(|(n, message)| ConfigError {
            path: layer.path.clone(),
            line: line_of_table(&layer.text, "[[prewarm]]", n),
            message: format!("[[prewarm]]: {message}"),
        })?;
        let table: toml::Table = toml::from_str(&layer.text).map_err(|e| describe(layer, &e))?;
        merge(&mut merged, table);
    }
    let last = layers.last().map(|l| l.path.clone()).unwrap_or_default();
    let fail = |message: String| ConfigError {
        path: last.clone(),
        line: None,
        message,
    };
    let config: Config = merged.try_into().map_err(|e| fail(e.to_string()))?;
    check(&config).map_err(|(_, message)| fail(message))?;
    Ok(config)
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (Some(toml::Value::Array(old)), toml::Value::Array(new)) => old.extend(new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn line_of_table(text: &str, header: &str, n: usize) -> Option<usize> {
    let lines = (1..).zip(text.lines());
    let mut headers = lines.filter(|(_, line)| line.trim_start().starts_with(header));
    headers.nth(n).map(|(line, _)| line)
}

fn describe(layer: &Layer, error: &toml::de::Error) -> ConfigError {
    let mut message = error.message().to_owned();
    if let Some(hint) = nearest(&message) {
        message = hint;
    }
    if message == "invalid type: map, expected a sequence" {
        message = "`prewarm` is an array of tables: write `[[prewarm]]`".into();
    }
    ConfigError {
        path: layer.path.clone(),
        line: error.span().map(|span| line_of(&layer.text, &span)),
        message,
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let upto = text.get(..span.start).unwrap_or(text);
    upto.matches('\n').count() + 1
}

fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let is_key = |line: &str| {
        line.trim_start()
            .strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(is_key).map(|n| n + 1)
}

/// Replaces serde's "unknown field `x`, expected one of …", which lists all names, by a
/// message with the most similar name.
fn nearest(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let best = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(unknown, k), *k))
        .min()?;
    // Beyond half its length another name is a guess, not a typo.
    if best.0 <= unknown.len().div_ceil(2) {
        Some(format!(
            "unknown key `{unknown}`: did you mean `{}`?",
            best.1
        ))
    } else {
        Some(format!(
            "unknown key `{unknown}`: the known keys are {}",
            known.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::HttpConfig;
    use super::*;

    fn layer(name: &str, text: &str) -> Layer {
        Layer {
            path: name.into(),
            text: text.into(),
        }
    }

    #[test]
    fn later_layers_override_earlier_ones_by_key() {
        let config = parse_layers(&[
            layer("a", "[model]\ndefault = 'x'\npreload = true\n"),
            layer("b", "[model]\ndefault = 'y'\n[queue]\nlength_max = 3\n"),
        ])
        .unwrap();
        assert_eq!(config.model.default, "y");
        assert!(config.model.preload);
        assert_eq!(config.queue.length_max, 3);
        assert_eq!(config.http, HttpConfig::default());
    }

    #[test]
    fn prewarm_tables_of_all_layers_are_concatenated() {
        let config = parse_layers(&[
            layer(
                "a",
                "[[prewarm]]\nsystem = 'x'\n[[prewarm]]\nsystem = 'y'\n",
            ),
            layer("b", "[[prewarm]]\nsystem_file = '/z'\nmodel = 'm'\n"),
        ])
        .unwrap();
        let systems: Vec<&str> = config.prewarm.iter().map(|t| t.system.as_str()).collect();
        assert_eq!(systems, ["x", "y", ""]);
        assert_eq!(config.prewarm[2].model, "m");
    }

    #[test]
    fn without_a_file_the_defaults_apply() {
        assert_eq!(parse_layers(&[]).unwrap(), Config::default());
        assert_eq!(
            parse_layers(&[layer("empty", "")]).unwrap(),
            Config::default()
        );
    }

    #[test]
    fn an_unknown_key_names_file_line_and_the_nearest() {
        let text = "[model]\ndefault = 'x'\npreloda = true\n";
        let error = parse_layers(&[layer("/etc/hearthd/hearthd.toml", text)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/etc/hearthd/hearthd.toml:3: unknown key `preloda`: did you mean `preload`?"
        );
        let error = parse_layers(&[layer("t", "\n[modle]\n")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "t:2: unknown key `modle`: did you mean `model`?"
        );
        let error = parse_layers(&[layer("t", "zzzzzzzz = 1\n")]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("t:1: unknown key `zzzzzzzz`: the known keys are model,")
        );
    }

    #[test]
    fn errors_have_their_line_and_reason() {
        for (text, line, part) in [
            ("[model]\npreload = 3\n", 2, "boolean"),
            ("[sampling]\n\ntop_p = 1.5\n", 3, "between 0 and 1"),
            ("[sampling]\nmirostat = 3\n", 2, "1 or 2"),
            ("[sampling]\nsamplers = []\n", 2, "samplers"),
            ("[http]\nsocket_mode = \"09\"\n", 2, "octal"),
            ("[queue]\nlength_max = -1\n", 2, ""),
            ("[queue]\nlength_max = 0\n", 2, "use 1 or more"),
            ("[queue]\n\nunread_s = 0\n", 3, "use 1 or more"),
            ("[http]\nconnections_max = 0\n", 2, "connections_max = 0"),
            ("[http]\nidle_s = 0\n", 2, "use 1 or more"),
            ("[http]\nbody_s = 0\n", 2, "use 1 or more"),
            ("[http]\nbody_max_mib = 65\n", 2, "between 1 and 64"),
            ("[model\n", 1, ""),
            ("[model]\ncontext = 12\n", 2, "at least 64"),
            ("[governor]\npower_percent = 4\n", 2, "between 5 and 100"),
            ("[governor]\npower_percent = 300\n", 2, "u8"),
            (
                "[governor]\n\ntemperature_limit_celsius = 30\n",
                3,
                "between 40 and 110",
            ),
            ("[governor]\npolicy = 'loud'\n", 2, "throughput"),
            (
                "[[prewarm]]\nsystem = 'x'\n\n [[prewarm]]\n",
                4,
                "set `system`",
            ),
            ("[[prewarm]]\nsystem = ' '\n", 1, "set `system`"),
            (
                "[[prewarm]]\nsystem = 'x'\nsystem_file = '/x'\n",
                1,
                "mutually exclusive",
            ),
            (
                "[[prewarm]]\nsystem_file = 'x'\n",
                1,
                "system_file = \"x\": must be an absolute path",
            ),
            (
                "[[prewarm]]\nsystem = 'x'\ntools_file = 'y'\n",
                1,
                "tools_file",
            ),
            ("[[prewarm]]\nsytem = 'x'\n", 2, "did you mean `system`"),
            ("[prewarm]\nsystem = 'x'\n", 1, "[[prewarm]]"),
        ] {
            let error = parse_layers(&[layer("t", text)]).unwrap_err();
            assert_eq!(error.line, Some(line), "{text:?}: {error}");
            assert!(error.message.contains(part), "{text:?}: {error}");
        }
    }
}
