//! Checks the offered tools, before any template or grammar is built from them.

use hearth_proto::{Failure, FailureKind, ToolChoice};
use serde_json::Value;

use super::bounds;
use super::relax::{Compiler, relaxed};

/// The most tools in one request, as in `OpenAI`'s API.
const MAX_TOOLS: usize = 128;
/// Bytes of all tools together, as text: templates and grammars are built from them for
/// each request.
const MAX_BYTES: usize = 512 * 1024;

/// Checks the size of the tools, and that `choice` can be met.
pub(super) fn check(tools: &[Value], choice: &ToolChoice) -> Result<(), Failure> {
    if *choice == ToolChoice::None {
        return Ok(());
    }
    if tools.len() > MAX_TOOLS {
        return Err(Failure::invalid(format!(
            "there are {} `tools`, at most {MAX_TOOLS} are allowed; offer fewer",
            tools.len()
        )));
    }
    // After its name was read, each of them is within bounds, and flat enough for
    // recursion.
    let names = tools.iter().map(name).collect::<Result<Vec<_>, _>>()?;
    check_rules(&names)?;
    let bytes = serde_json::to_string(tools).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_BYTES {
        return Err(Failure::invalid(format!(
            "the `tools` have {bytes} bytes together, at most {MAX_BYTES} are allowed; offer \
             fewer or simpler ones"
        )));
    }
    match choice {
        ToolChoice::Named(name) if !names.contains(&name.as_str()) => Err(Failure::invalid_field(
            "tool_choice",
            format!("names {name:?}, which is not among `tools`; offer it or choose another"),
        )),
        ToolChoice::Required if tools.is_empty() => Err(Failure::invalid_field(
            "tool_choice",
            "asks for a call, but there are no `tools`; offer at least one",
        )),
        _ => Ok(()),
    }
}

/// The chat layer's grammar has a rule named `tool-` and the name for each tool, and rules
/// of its own with the same prefix; of two rules with one name it silently drops one.
fn check_rules(names: &[&str]) -> Result<(), Failure> {
    const OWN: [&str; 4] = ["call", "calls", "call-root", "call-first"];
    let rules: Vec<String> = names.iter().map(|name| rule(name)).collect();
    for (name, rule) in names.iter().zip(&rules) {
        if OWN.contains(&rule.as_str()) {
            return Err(Failure::invalid(format!(
                "a tool cannot be named {name:?}: llama.cpp's chat layer uses the name itself; \
                 rename it"
            )));
        }
        let same = |(other, others): &(&&str, &String)| {
            let parts = others.strip_prefix(rule.as_str());
            *other != name
                && parts.is_some_and(|rest| {
                    rest.is_empty() || rest == "-schema" || rest.starts_with("-arg-")
                })
        };
        if let Some((other, _)) = names.iter().zip(&rules).find(same) {
            return Err(Failure::invalid(format!(
                "llama.cpp's chat layer does not distinguish the names of the tools {name:?} and \
                 {other:?}; rename one"
            )));
        }
    }
    Ok(())
}

/// A tool's name as part of a rule's name.
fn rule(name: &str) -> String {
    let mut rule = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '-' {
            rule.push(c);
        } else if !rule.ends_with('\u{0}') {
            rule.push('\u{0}');
        }
    }
    rule.replace('\u{0}', "-")
}

/// The name of a tool whose parameters are a schema within bounds.
fn name(tool: &Value) -> Result<&str, Failure> {
    let function = tool.get("function").unwrap_or(&Value::Null);
    let Some(name) = function.get("name").and_then(Value::as_str) else {
        return Err(Failure::invalid(
            "each of `tools` needs a `function` with a `name`",
        ));
    };
    match function.get("parameters") {
        None | Some(Value::Null) => {}
        Some(schema @ Value::Object(map)) => {
            bounds::schema(schema).map_err(|failure| invalid(name, &failure.message))?;
            if function.get("strict") == Some(&Value::Bool(true))
                && let Some(place) = relaxed(schema, Compiler::ChatLayer).1.first()
            {
                let why = "cannot be guaranteed: omit it, or `strict`";
                return Err(invalid(name, &format!("\"{place}\" {why}")));
            }
            if map.get("type").is_some_and(|kind| kind != "object") {
                return Err(invalid(name, "\"/type\" must be \"object\""));
            }
        }
        Some(_) => return Err(invalid(name, "they must be a JSON schema, an object")),
    }
    Ok(name)
}

/// The failure of a tool with invalid parameters.
pub fn invalid(tool: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::InvalidSchema,
        format!("the parameters of the tool {tool:?} cannot be used: {why}"),
    )
    .about("tools")
}
