//! The manual page of the output with `--json`, from a JSON schema for each command.
//! Tests compare the schemas with the output of the commands.

use std::fmt::Write as _;

use serde_json::Value;

use super::roff::{escaped, paragraphs};
use crate::error::{CtlError, Result};

/// The schemas of version 1, by command. `title` and `description` are for the page;
/// `x-open` marks an object with fields that are described elsewhere.
const SCHEMAS: [&str; 31] = [
    include_str!("json/error.json"),
    include_str!("json/advise.json"),
    include_str!("json/bench-model.json"),
    include_str!("json/bench-shape.json"),
    include_str!("json/bench-study.json"),
    include_str!("json/cache-clear.json"),
    include_str!("json/cache-list.json"),
    include_str!("json/cache-verify.json"),
    include_str!("json/cancel.json"),
    include_str!("json/chat.json"),
    include_str!("json/count-tokens.json"),
    include_str!("json/embed.json"),
    include_str!("json/evaluate.json"),
    include_str!("json/fit.json"),
    include_str!("json/generate.json"),
    include_str!("json/imatrix.json"),
    include_str!("json/import.json"),
    include_str!("json/jobs.json"),
    include_str!("json/load.json"),
    include_str!("json/models.json"),
    include_str!("json/prewarm.json"),
    include_str!("json/pull.json"),
    include_str!("json/quantize.json"),
    include_str!("json/remove.json"),
    include_str!("json/rerank.json"),
    include_str!("json/result.json"),
    include_str!("json/simulate.json"),
    include_str!("json/status.json"),
    include_str!("json/submit.json"),
    include_str!("json/tune.json"),
    include_str!("json/unload.json"),
];

/// The promise to programs.
const DESCRIPTION: &str = "\
With the option `--json` hearthctl writes JSON to standard output: one document on one
line, or, where a command says so, one document per line. `--json=1` asks for version 1 of
these documents, which this page describes, and `--json` alone for version 1 as well. A
version that hearthctl does not know is an error, which lists those that it knows.

Within a version, fields, events of streams and values of text fields may be added, and no
field is removed, renamed or given another type. Programs must ignore what they do not
know. The order of fields has no meaning. A change of any other kind gets a new version
number; a program that names the version it was written for gets that form or an error.

Progress, remarks and statistics are not part of the output; some are written to standard
error. `top` has no output as JSON: use `status --watch`.

If a command fails, the last line is the document `error` below, and the exit code is the
one in it. What was written before is valid, but may be incomplete.";

/// The whole page. It has no date, so that the output is reproducible.
pub fn page() -> Result<String> {
    let mut page = format!(
        ".TH HEARTHCTL-JSON 5 \"\" \"hearthctl {}\" \"Hearthd\"\n.SH NAME\n\
         hearthctl\\-json \\- the output of hearthctl with \\-\\-json\n.SH SYNOPSIS\n\
         .B hearthctl \\-\\-json[=\\fIVERSION\\fB]\n.I COMMAND\n.SH DESCRIPTION\n",
        env!("CARGO_PKG_VERSION"),
    );
    paragraphs(&mut page, DESCRIPTION);
    page += ".SH DOCUMENTS\n";
    for text in SCHEMAS {
        let schema: Value = serde_json::from_str(text)
            .map_err(|e| CtlError::Unexpected(format!("a schema is not JSON: {e}")))?;
        let title = schema["title"].as_str().unwrap_or_default();
        let title = title.strip_prefix("hearthctl ").unwrap_or(title);
        _ = writeln!(page, ".SS {}", escaped(title));
        paragraphs(&mut page, description(&schema));
        describe(&mut page, &schema);
    }
    page += ".SH SEE ALSO\n.BR hearthctl (1),\n.BR org.hearthd.Inference1 (5)\n";
    Ok(page)
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// The fields below a schema, indented.
fn describe(page: &mut String, schema: &Value) {
    if let Some(choices) = schema["anyOf"].as_array() {
        for choice in choices {
            let event = choice["properties"]["type"]["const"].as_str();
            match event.filter(|_| choice["properties"].get("function").is_none()) {
                Some(event) => item(page, event, "event", description(choice)),
                None => paragraph(page, description(choice)),
            }
            page.push_str(".RS\n");
            describe(page, choice);
            page.push_str(".RE\n");
        }
        return;
    }
    if schema["items"].is_object() {
        return describe(page, &schema["items"]);
    }
    if schema["additionalProperties"].is_object() {
        return describe(page, &schema["additionalProperties"]);
    }
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    let required = schema["required"].as_array();
    for (name, field) in fields {
        let is_required = required.is_some_and(|names| names.iter().any(|one| one == name));
        let optional = if is_required { "" } else { ", optional" };
        let kind = format!("{}{optional}", kind(field));
        item(page, name, &kind, description(field));
        page.push_str(".RS\n");
        describe(page, field);
        page.push_str(".RE\n");
    }
}

fn item(page: &mut String, name: &str, kind: &str, about: &str) {
    _ = writeln!(page, ".TP\n\\fB{}\\fR ({kind})", escaped(name));
    paragraphs(page, about);
}

fn paragraph(page: &mut String, about: &str) {
    if !about.is_empty() {
        page.push_str(".PP\n");
        paragraphs(page, about);
    }
}

/// The type of a field, in words.
fn kind(field: &Value) -> String {
    if let Some(value) = field.get("const") {
        return value.to_string();
    }
    let one = |name: &Value| name.as_str().unwrap_or("any value").to_owned();
    match &field["type"] {
        Value::Array(names) => names.iter().map(one).collect::<Vec<_>>().join(" or "),
        Value::String(name) if name == "array" => format!("list of {}", kind(&field["items"])),
        name => one(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_schema_is_on_the_page_with_every_field() {
        let page = page().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/json");
        let files: BTreeSet<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        assert_eq!(files, SCHEMAS.map(str::to_owned).into());
        for text in SCHEMAS {
            let schema: Value = serde_json::from_str(text).unwrap();
            assert!(schema["title"].is_string() && schema["description"].is_string());
            check(&page, &schema);
        }
    }

    /// Each field is documented and on the page.
    fn check(page: &str, schema: &Value) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            assert!(!description(field).is_empty(), "{name}");
            assert!(
                page.contains(&format!("\\fB{}\\fR (", escaped(name))),
                "{name}"
            );
            check(page, field);
        }
        check_each(page, &schema["anyOf"]);
        for below in ["items", "additionalProperties"] {
            if schema[below].is_object() {
                check(page, &schema[below]);
            }
        }
    }

    fn check_each(page: &str, schemas: &Value) {
        for schema in schemas.as_array().into_iter().flatten() {
            check(page, schema);
        }
    }

    #[test]
    fn types_are_in_words() {
        for (field, words) in [
            (serde_json::json!({"type": "string"}), "string"),
            (
                serde_json::json!({"type": ["number", "null"]}),
                "number or null",
            ),
            (serde_json::json!({"const": true}), "true"),
            (
                serde_json::json!({"type": "array", "items": {"type": "string"}}),
                "list of string",
            ),
        ] {
            assert_eq!(kind(&field), words);
        }
    }
}
