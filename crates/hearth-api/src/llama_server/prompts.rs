//! The forms of `prompt`: a text, tokens, both mixed, an object, and a list of any of these.

use hearth_proto::{EmbedInput, Failure, FailureKind, Prompt, PromptPart};
use serde_json::{Map, Value};

use crate::content::{Content, Part};
use crate::read::{join, read_in, read_value};
use crate::scalars::{Text, Token};
use crate::shape::{List, Object};

/// The most prompts of a request: each takes a place in the queue.
const PROMPTS_MAX: usize = 64;

/// The most texts to embed: OpenAI's bound.
const INPUTS_MAX: usize = 2048;

/// The prompts of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prompts {
    pub(crate) list: Vec<Prompt>,
    /// Whether they were written as a list of prompts.
    pub(crate) are_several: bool,
}

#[derive(Debug, serde::Deserialize)]
struct PromptObject {
    prompt_string: Option<Text>,
    multimodal_data: Option<Value>,
    /// As in a message of a chat.
    content: Option<List<Object<Part>>>,
}

/// Reads the field `name`.
///
/// # Errors
/// `InvalidArgs` naming the field or the part of it, `NotSupported` for pictures.
pub(crate) fn prompts(name: &str, value: Option<&Value>) -> Result<Prompts, Failure> {
    at_most(PROMPTS_MAX, name, value)
}

/// Reads the field `name`, which has texts to embed in the same forms.
///
/// # Errors
/// As [`prompts`].
pub(crate) fn inputs(name: &str, value: Option<&Value>) -> Result<Vec<EmbedInput>, Failure> {
    let input = |prompt| match prompt {
        Prompt::Text(text) => Some(text.into()),
        Prompt::Mixed(parts) => Some(EmbedInput(parts)),
        Prompt::Chat { .. } | Prompt::Infill(_) => None,
    };
    let prompts = at_most(INPUTS_MAX, name, value)?.list;
    Ok(prompts.into_iter().filter_map(input).collect())
}

fn at_most(most: usize, name: &str, value: Option<&Value>) -> Result<Prompts, Failure> {
    const FORMS: &str = "must be a text, a list of tokens and texts, or a list of these";
    let several = match value {
        Some(Value::Array(items)) if !items.iter().any(Value::is_number) => items,
        Some(value) => {
            let prompt = one(name, value)?.ok_or_else(|| Failure::invalid_field(name, FORMS))?;
            return Ok(Prompts {
                list: vec![prompt],
                are_several: false,
            });
        }
        None => return Err(Failure::invalid_field(name, FORMS)),
    };
    if several.is_empty() || several.len() > most {
        return Err(Failure::invalid_field(
            name,
            format_args!("must have 1 to {most} entries"),
        ));
    }
    let read = |(at, value): (usize, &Value)| {
        let place = format!("{name}[{at}]");
        let prompt = one(&place, value)?;
        prompt.ok_or_else(|| {
            Failure::invalid_field(&place, "must be a text, or a list of tokens and texts")
        })
    };
    let list: Result<Vec<Prompt>, Failure> = several.iter().enumerate().map(read).collect();
    Ok(Prompts {
        list: list?,
        are_several: true,
    })
}

/// One prompt; `None` for a value of another form.
fn one(place: &str, value: &Value) -> Result<Option<Prompt>, Failure> {
    match value {
        Value::String(text) => Ok(Some(Prompt::Text(text.clone()))),
        Value::Array(items) => mixed(place, items).map(Some),
        Value::Object(fields) => object(place, fields).map(Some),
        _ => Ok(None),
    }
}

fn mixed(place: &str, items: &[Value]) -> Result<Prompt, Failure> {
    let mut parts = Vec::new();
    for (at, item) in items.iter().enumerate() {
        if let Value::String(text) = item {
            parts.push(PromptPart::Text(text.clone()));
            continue;
        }
        let Token(token) = read_value(&format!("{place}[{at}]"), item)?;
        match parts.last_mut() {
            Some(PromptPart::Tokens(tokens)) => tokens.push(token),
            _ => parts.push(PromptPart::Tokens(vec![token])),
        }
    }
    if parts.is_empty() {
        return Err(Failure::invalid_field(place, "must not be empty"));
    }
    Ok(Prompt::Mixed(parts))
}

fn object(place: &str, fields: &Map<String, Value>) -> Result<Prompt, Failure> {
    let fields: PromptObject = read_in(place, fields)?;
    let is_empty = |data: &Value| data.as_array().is_some_and(Vec::is_empty) || data.is_null();
    if fields.multimodal_data.is_some_and(|data| !is_empty(&data)) {
        return Err(Failure::of_field(
            FailureKind::NotSupported,
            &join(place, "multimodal_data"),
            "is not supported: send pictures and sounds in a chat",
        ));
    }
    if let (None, Some(List(parts))) = (&fields.prompt_string, fields.content) {
        let parts = Content::Parts(parts.into_iter().map(|part| part.0).collect());
        let (text, media) = parts.into_text(place)?;
        if media.is_empty() {
            return Ok(Prompt::Text(text));
        }
        return Err(Failure::of_field(
            FailureKind::NotSupported,
            &join(place, "content"),
            "may have texts only: send pictures and sounds in a chat",
        ));
    }
    let text = fields
        .prompt_string
        .ok_or_else(|| Failure::invalid_field(&join(place, "prompt_string"), "must be a string"))?;
    Ok(Prompt::Text(text.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> Prompt {
        Prompt::Text(text.into())
    }

    #[test]
    fn every_form_is_read() {
        let mixed = Prompt::Mixed(vec![
            PromptPart::Tokens(vec![1, 2]),
            PromptPart::Text("a".into()),
            PromptPart::Tokens(vec![3]),
        ]);
        for (value, list, are_several) in [
            (json!("a"), vec![text("a")], false),
            (json!([1, 2]), vec![Prompt::tokens(vec![1, 2])], false),
            (json!([1, 2, "a", 3]), vec![mixed.clone()], false),
            (json!({"prompt_string": "a"}), vec![text("a")], false),
            (
                json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
                vec![text("ab")],
                false,
            ),
            (json!(["a"]), vec![text("a")], true),
            (
                json!(["a", [1, 2], [1, 2, "a", 3], {"prompt_string": "b"}]),
                vec![text("a"), Prompt::tokens(vec![1, 2]), mixed, text("b")],
                true,
            ),
        ] {
            let read = prompts("prompt", Some(&value));
            assert_eq!(read, Ok(Prompts { list, are_several }), "{value}");
        }
    }

    #[test]
    fn inputs_are_read_in_the_same_forms() {
        let tokens = |list: &[i32]| EmbedInput(vec![PromptPart::Tokens(list.to_vec())]);
        for (value, expected) in [
            (json!("a"), vec!["a".into()]),
            (json!([1, 2]), vec![tokens(&[1, 2])]),
            (
                json!([[1, 2], "a", [3]]),
                vec![tokens(&[1, 2]), "a".into(), tokens(&[3])],
            ),
            (json!(vec!["a"; 2048]), vec!["a".into(); 2048]),
        ] {
            assert_eq!(inputs("input", Some(&value)), Ok(expected));
        }
        let many = json!(vec!["a"; 2049]);
        assert!(inputs("input", Some(&many)).is_err());
    }

    #[test]
    fn errors_name_the_place() {
        for (value, place) in [
            (json!(1), "prompt"),
            (json!(null), "prompt"),
            (json!([]), "prompt"),
            (json!([null]), "prompt[0]"),
            (json!(["a", []]), "prompt[1]"),
            (json!([1, 1.5]), "prompt[1]"),
            (json!([1, null]), "prompt[1]"),
            (json!([[1, true]]), "prompt[0][1]"),
            (json!({}), "prompt.prompt_string"),
            (json!({"prompt_string": 1}), "prompt.prompt_string"),
            (json!({"content": "a"}), "prompt.content"),
            (json!({"content": [{"type": "smell"}]}), "prompt.content[0]"),
            (
                json!({"prompt_string": "a", "multimodal_data": ["x"]}),
                "prompt.multimodal_data",
            ),
            (json!(vec!["a"; PROMPTS_MAX + 1]), "prompt"),
        ] {
            let failure = prompts("prompt", Some(&value)).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(place), "{value}");
        }
        assert_eq!(
            prompts("prompt", None).unwrap_err().field.as_deref(),
            Some("prompt")
        );
    }
}
