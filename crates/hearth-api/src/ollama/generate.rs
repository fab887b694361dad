//! `/api/generate`: one turn, or a text without template.

use hearth_proto::{Failure, Infill, Message, Prompt, check_media};
use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess};
use serde_json::Value;

use super::messages::unsupported;
use super::request::{Request, common};
use crate::media::images;
use crate::read::{object, read};
use crate::scalars::{Flag, Text};
use crate::shape::{Shape, deserialize_by_shape};

#[derive(Debug, Deserialize)]
struct GenerateFields {
    prompt: Option<Text>,
    system: Option<Text>,
    template: Option<Text>,
    raw: Option<Flag>,
    context: Option<Context>,
    suffix: Option<Text>,
    images: Option<Value>,
}

/// Decodes a request of `/api/generate`.
///
/// # Errors
/// As [`decode_chat`](super::decode_chat).
pub fn decode_generate(body: &[u8]) -> Result<Request, Failure> {
    let body = object(body)?;
    let fields: GenerateFields = read(&body)?;
    fields.refuse_unsupported()?;
    let is_raw = fields.is_raw();
    let prompt: String = fields.prompt.map(Into::into).unwrap_or_default();
    let system: String = fields.system.map(Into::into).unwrap_or_default();
    let suffix: String = fields.suffix.map(Into::into).unwrap_or_default();
    // As in Ollama, a raw prompt has nothing added to it.
    let is_infill = !suffix.is_empty() && !is_raw;
    let media = images("images", fields.images.as_ref())?;
    check_media(media.iter())?;
    let has_media = !media.is_empty();
    if has_media && (is_raw || is_infill) {
        return Err(unsupported(
            "images",
            "pictures go into a conversation, leave `raw` and `suffix` out",
        ));
    }
    let is_empty = prompt.is_empty() && !is_infill && !has_media;
    // A base model takes no pictures.
    let base_text = (!is_infill && !has_media).then(|| base_text(&system, &prompt));
    let prompt = if is_raw {
        Prompt::Text(prompt)
    } else if is_infill {
        Prompt::Infill(Box::new(Infill {
            prefix: prompt,
            suffix,
            ..Infill::default()
        }))
    } else {
        let system = (!system.is_empty()).then(|| Message {
            role: "system".into(),
            content: system,
            ..Message::default()
        });
        let question = Message {
            media,
            ..Message::user(prompt)
        };
        Prompt::Chat {
            messages: system.into_iter().chain([question]).collect(),
            tools: Vec::new(),
        }
    };
    let mut request = common(&body, prompt)?;
    request.is_empty = is_empty;
    request.submission.base_text = base_text;
    Ok(request)
}

/// The text for a model without a template, as Ollama makes it.
fn base_text(system: &str, prompt: &str) -> String {
    let parts = [system, prompt].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("\n\n")
}

impl GenerateFields {
    fn is_raw(&self) -> bool {
        self.raw.is_some_and(Into::into)
    }

    fn refuse_unsupported(&self) -> Result<(), Failure> {
        let is_set = |text: &Option<Text>| text.as_ref().is_some_and(|text| !text.0.is_empty());
        let has_template = is_set(&self.template);
        let has_context = self
            .context
            .as_ref()
            .is_some_and(|context| !context.is_empty);
        if self.is_raw() && (has_template || has_context || is_set(&self.system)) {
            return Err(Failure::invalid_field(
                "raw",
                "goes with `prompt` alone, not with `system`, `template` or `context`",
            ));
        }
        if has_template {
            return Err(unsupported(
                "template",
                "the model file's own is used; leave it out, or send the whole text as `prompt` \
                 with `raw`",
            ));
        }
        Ok(())
    }
}

/// The tokens of an earlier answer; they are not used.
#[derive(Debug)]
struct Context {
    is_empty: bool,
}

deserialize_by_shape!(Context);

impl<'de> Shape<'de> for Context {
    const WHAT: &'static str = "must be a list of numbers";

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut is_empty = true;
        while list.next_element::<IgnoredAny>()?.is_some() {
            is_empty = false;
        }
        Ok(Self { is_empty })
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::Constraint;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn generate(body: &Value) -> Result<Request, Failure> {
        decode_generate(body.to_string().as_bytes())
    }

    #[test]
    fn a_generate_request_is_read() {
        let request = generate(&json!({
            "model": "m", "prompt": "Hi", "system": "Be brief.", "stream": false, "raw": false,
            "template": "", "suffix": "", "context": [1, 2], "images": [], "format": "json",
        }));
        let request = request.unwrap();
        assert!(!request.stream && !request.is_empty);
        assert_eq!(
            request.submission.request.constraint,
            Some(Constraint::JsonObject)
        );
        let Prompt::Chat { messages, .. } = request.submission.request.prompt else {
            panic!()
        };
        let told: Vec<_> = messages
            .iter()
            .map(|m| (m.role.as_str(), m.content.as_str()))
            .collect();
        assert_eq!(told, [("system", "Be brief."), ("user", "Hi")]);
        let raw = generate(&json!({"prompt": "Hi", "raw": true})).unwrap();
        assert_eq!(raw.submission.request.prompt, Prompt::Text("Hi".into()));
    }

    #[test]
    fn a_suffix_makes_an_infill_request() {
        for (body, prefix) in [
            (json!({"prompt": "a", "suffix": "z", "system": "s"}), "a"),
            (json!({"suffix": "z"}), ""),
        ] {
            let request = generate(&body).unwrap();
            assert!(!request.is_empty && request.submission.base_text.is_none());
            let expected = Infill {
                prefix: prefix.into(),
                suffix: "z".into(),
                prompt: String::new(),
                extra: None,
            };
            assert_eq!(
                request.submission.request.prompt,
                Prompt::Infill(expected.into())
            );
        }
        let raw = generate(&json!({"prompt": "a", "suffix": "z", "raw": true})).unwrap();
        assert_eq!(raw.submission.request.prompt, Prompt::Text("a".into()));
    }

    #[test]
    fn an_empty_prompt_is_accepted() {
        for body in [
            json!({}),
            json!({"prompt": "", "system": "x"}),
            json!({"prompt": "", "raw": true, "keep_alive": 0}),
        ] {
            assert!(generate(&body).unwrap().is_empty, "{body}");
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (body, part) in [
            (json!({"prompt": ["x"]}), "`prompt`"),
            (json!({"prompt": "x", "suffix": 1}), "`suffix`"),
            (
                json!({"prompt": "x", "template": "{{ .Prompt }}"}),
                "`template`",
            ),
            (json!({"prompt": "x", "raw": true, "system": "y"}), "`raw`"),
            (json!({"prompt": "x", "raw": true, "context": [1]}), "`raw`"),
            (json!({"prompt": "x", "raw": "yes"}), "`raw`"),
            (json!({"prompt": "x", "context": "y"}), "`context`"),
            (json!({"prompt": "x", "images": ["aGk="]}), "`images[0]`"),
            (
                json!({"prompt": "x", "raw": true, "images": ["R0lGODlhAgABAIAAAA=="]}),
                "`raw`",
            ),
        ] {
            let error = generate(&body).unwrap_err();
            assert!(error.message.contains(part), "{body}: {error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            _ = decode_generate(&body);
        }
    }
}
