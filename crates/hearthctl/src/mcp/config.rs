//! The file that names the MCP servers: `mcpServers` as most clients write it, `servers`
//! as VS Code does.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

/// The servers to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// In the order of the file.
    pub servers: Vec<ServerConfig>,
}

/// How to start one server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    pub name: String,
    pub command: String,
    pub args: Hidden<Vec<String>>,
    pub env: Hidden<Vec<(String, String)>>,
    /// The folder to start in; that of hearthctl if omitted.
    pub cwd: Option<PathBuf>,
    /// Tools that run without a question, under the server's own names.
    pub always_allow: Vec<String>,
}

/// A value that may contain passwords and is therefore never printed.
#[derive(Clone, Default, PartialEq)]
pub struct Hidden<T>(pub T);

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Reads the file while the command line is parsed, so that an error in it is a usage
/// error.
pub fn file(path: &str) -> Result<Config, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let document = serde_json::from_str(&text)
        .map_err(|e| format!("{path} is not valid JSON (comments are not supported): {e}"))?;
    parse(&document).map_err(|e| format!("{path}: {e}"))
}

fn parse(document: &Value) -> Result<Config, String> {
    let (key, servers) = ["mcpServers", "servers"]
        .into_iter()
        .find_map(|key| Some((key, document.get(key)?)))
        .ok_or("there is no object `mcpServers` (or `servers`) with the servers in it")?;
    let servers = servers
        .as_object()
        .ok_or_else(|| format!("`{key}` must be an object: {{\"NAME\": {{\"command\": ...}}}}"))?;
    let mut found = Vec::new();
    for (name, entry) in servers {
        let at = Place(format!("{key}.{name}"));
        let entry = entry.as_object().ok_or_else(|| at.must("", "an object"))?;
        if !at.flag(entry, "disabled")? {
            found.push(server(name, entry, &at)?);
        }
    }
    if found.is_empty() {
        return Err(format!("`{key}` has no server that is not disabled"));
    }
    Ok(Config { servers: found })
}

fn server(name: &str, entry: &Map<String, Value>, at: &Place) -> Result<ServerConfig, String> {
    let Some(command) = at.text(entry, "command")? else {
        return Err(if entry.contains_key("url") {
            format!(
                "`{}` is a server with a `url`: only servers with a `command` can be started; \
                 set \"disabled\": true",
                at.0
            )
        } else {
            format!("`{}.command` is missing: the program of the server", at.0)
        });
    };
    if command.is_empty() {
        return Err(format!("`{}.command` is empty", at.0));
    }
    Ok(ServerConfig {
        name: name.to_owned(),
        command,
        args: Hidden(at.texts(entry, "args")?),
        env: Hidden(at.env(entry)?),
        cwd: at.text(entry, "cwd")?.map(PathBuf::from),
        always_allow: at.texts(entry, "alwaysAllow")?,
    })
}

/// Where in the file a value is. Errors name the place and never quote a value, which may
/// be a password.
struct Place(String);

impl Place {
    fn must(&self, key: &str, what: &str) -> String {
        let dot = if key.is_empty() { "" } else { "." };
        format!("`{}{dot}{key}` must be {what}", self.0)
    }

    fn flag(&self, entry: &Map<String, Value>, key: &str) -> Result<bool, String> {
        match entry.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.must(key, "true or false")),
        }
    }

    fn text(&self, entry: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
        match entry.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => self.without_nul(text, key).map(Some),
            Some(_) => Err(self.must(key, "a string")),
        }
    }

    fn texts(&self, entry: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
        let wrong = || self.must(key, "a list of strings");
        let list = match entry.get(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(list) => list.as_array().ok_or_else(wrong)?,
        };
        list.iter()
            .map(|item| self.without_nul(item.as_str().ok_or_else(wrong)?, key))
            .collect()
    }

    /// Other clients accept numbers and truth values there, so files have them.
    fn env(&self, entry: &Map<String, Value>) -> Result<Vec<(String, String)>, String> {
        let env = match entry.get("env") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(env)) => env,
            Some(_) => return Err(self.must("env", "an object of strings")),
        };
        env.iter()
            .map(|(name, value)| {
                let key = format!("env.{name}");
                if name.is_empty() || name.contains(['=', '\0']) {
                    return Err(self.must(&key, "the name of an environment variable"));
                }
                let text = match value {
                    Value::String(text) => self.without_nul(text, &key)?,
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    _ => return Err(self.must(&key, "a string")),
                };
                Ok((name.clone(), text))
            })
            .collect()
    }

    /// The system calls end a string there.
    fn without_nul(&self, text: &str, key: &str) -> Result<String, String> {
        if text.contains('\0') {
            return Err(self.must(key, "text without the character U+0000"));
        }
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_usual_forms_are_read() {
        let entry = json!({"command": "npx", "args": ["-y", "x"], "env": {"A": "1", "N": 2},
            "cwd": "/srv", "alwaysAllow": ["get"], "type": "stdio", "timeout": 60});
        let off = json!({"url": "https://x", "disabled": true});
        for key in ["mcpServers", "servers"] {
            let config = parse(&json!({key: {"one": entry, "off": off}})).unwrap();
            assert_eq!(
                config.servers,
                [ServerConfig {
                    name: "one".into(),
                    command: "npx".into(),
                    args: Hidden(vec!["-y".into(), "x".into()]),
                    env: Hidden(vec![("A".into(), "1".into()), ("N".into(), "2".into())]),
                    cwd: Some("/srv".into()),
                    always_allow: vec!["get".into()],
                }]
            );
        }
    }

    #[test]
    fn errors_name_the_field_and_quote_no_value() {
        for (document, expected) in [
            (json!({}), "no object `mcpServers`"),
            (json!({"mcpServers": ["SECRET"]}), "`mcpServers` must be"),
            (json!({"mcpServers": {}}), "not disabled"),
            (json!({"servers": {"a": "SECRET"}}), "`servers.a` must be"),
            (
                json!({"servers": {"a": {}}}),
                "`servers.a.command` is missing",
            ),
            (json!({"servers": {"a": {"url": "SECRET"}}}), "with a `url`"),
            (
                json!({"servers": {"a": {"command": 1}}}),
                "`servers.a.command` must be a string",
            ),
            (
                json!({"servers": {"a": {"command": "x", "args": "SECRET"}}}),
                "`servers.a.args`",
            ),
            (
                json!({"servers": {"a": {"command": "x", "args": ["SECRET\0"]}}}),
                "U+0000",
            ),
            (
                json!({"servers": {"a": {"command": "x", "env": "SECRET"}}}),
                "`servers.a.env`",
            ),
            (
                json!({"servers": {"a": {"command": "x", "env": {"T": ["SECRET"]}}}}),
                "a.env.T`",
            ),
            (
                json!({"servers": {"a": {"command": "x", "disabled": "SECRET"}}}),
                "a.disabled`",
            ),
        ] {
            let error = parse(&document).expect_err(expected);
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let entry = json!({"command": "x", "args": ["SECRET"], "env": {"T": "SECRET"}});
        let config = parse(&json!({"mcpServers": {"a": entry}})).unwrap();
        assert!(!format!("{config:?}").contains("SECRET"));
    }
}
