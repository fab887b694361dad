//! `/api/create`: a model that is another one with settings of its own.

use hearth_proto::{Failure, Lora, Message, Sampling};
use serde::Deserialize;
use serde::de::{Error, SeqAccess};
use serde_json::{Map, Value};

use super::messages::{MessageFields, messages, unsupported};
use super::options::{Options, options_at};
use super::request::{NameFields, stream};
use crate::lora::Loras;
use crate::read::{object, quote, read};
use crate::scalars::Text;
use crate::shape::{List, Object, Shape, deserialize_by_shape};

/// Where the options are in a request.
const PARAMETERS: &str = "parameters";
/// Roles that a message before every conversation may have.
const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// A decoded request of `/api/create`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Create {
    /// The name of the new model as the client has it.
    pub name: String,
    /// The model that it is made from; empty where files are given.
    pub from: String,
    /// Files by their names, with their digests.
    pub files: Vec<(String, String)>,
    /// Files of adapters by their names, with their digests.
    pub adapters: Vec<(String, String)>,
    /// Whether to stream.
    pub stream: bool,
    /// The chat template; empty: that of the file.
    pub template: String,
    /// The system prompt; empty: as the base.
    pub system: String,
    /// Messages before those of a conversation.
    pub messages: Vec<Message>,
    /// The licence; empty: as the base.
    pub license: String,
    /// The options as they were given.
    pub parameters: Map<String, Value>,
    /// Sampling among them.
    pub sampling: Sampling,
    /// `num_predict` among them.
    pub max_tokens: Option<u32>,
    /// `num_ctx` among them.
    pub context_max: Option<u32>,
    /// Stop strings among them.
    pub stop: Vec<String>,
    /// Installed adapters by name.
    pub lora: Vec<Lora>,
}

#[derive(Debug, Deserialize)]
struct CreateFields {
    from: Option<Text>,
    files: Option<Object<Map<String, Value>>>,
    adapters: Option<Object<Map<String, Value>>>,
    template: Option<Text>,
    system: Option<Text>,
    messages: Option<List<Object<MessageFields>>>,
    license: Option<License>,
    parameters: Option<Object<Map<String, Value>>>,
    lora: Option<Loras>,
}

/// What the service does not do.
#[derive(Debug, Deserialize)]
struct RefusedFields {
    quantize: Option<Text>,
    /// The older name.
    quantization: Option<Text>,
    draft_quantize: Option<Text>,
    draft_files: Option<Object<Map<String, Value>>>,
    remote_host: Option<Text>,
    modelfile: Option<Text>,
    path: Option<Text>,
}

/// Decodes a request of `/api/create`.
///
/// # Errors
/// As [`decode_chat`](super::decode_chat); a name, and a base or files, are required.
pub fn decode_create(body: &[u8]) -> Result<Create, Failure> {
    let body = object(body)?;
    read::<RefusedFields>(&body)?.check()?;
    let name = read::<NameFields>(&body)?.name();
    if name.is_empty() {
        return Err(Failure::invalid_field("model", "must name the new model"));
    }
    let fields: CreateFields = read(&body)?;
    let from: String = fields.from.map(Into::into).unwrap_or_default();
    let files = digests("files", fields.files)?;
    if from.is_empty() && files.is_empty() {
        let what = "must name an installed model, where no `files` are given";
        return Err(Failure::invalid_field("from", what));
    }
    let parameters = fields.parameters.unwrap_or_default().0;
    let options: Options = options_at(PARAMETERS, &parameters)?;
    let messages = messages(fields.messages.unwrap_or_default().0)?;
    let odd = |message: &Message| !ROLES.contains(&message.role.as_str());
    if let Some(n) = messages.iter().position(odd) {
        let place = format!("messages[{n}].role");
        let what = "must be \"system\", \"user\" or \"assistant\"";
        return Err(Failure::invalid_field(&place, what));
    }
    Ok(Create {
        name,
        from,
        files,
        adapters: digests("adapters", fields.adapters)?,
        stream: stream(&body)?,
        template: fields.template.map(Into::into).unwrap_or_default(),
        system: fields.system.map(Into::into).unwrap_or_default(),
        messages,
        license: fields.license.map(|license| license.0).unwrap_or_default(),
        parameters,
        sampling: options.sampling,
        max_tokens: options.max_tokens,
        context_max: options.context_max,
        stop: options.stop,
        lora: fields.lora.map_or(options.lora, Into::into),
    })
}

impl RefusedFields {
    fn check(self) -> Result<(), Failure> {
        let is_set = |text: &Option<Text>| text.as_ref().is_some_and(|text| !text.0.is_empty());
        let drafts = self.draft_files.is_some_and(|files| !files.0.is_empty());
        let refused = [
            (is_set(&self.quantize), "quantize", QUANTIZE),
            (is_set(&self.quantization), "quantization", QUANTIZE),
            (is_set(&self.draft_quantize), "draft_quantize", QUANTIZE),
            (
                drafts,
                "draft_files",
                "draft models are configured: `model.draft` in hearthd.toml",
            ),
            (
                is_set(&self.remote_host),
                "remote_host",
                "the service has no network access",
            ),
            (
                is_set(&self.modelfile),
                "modelfile",
                "send its parts as fields: `from`, `system`, `parameters`, `messages`",
            ),
            (
                is_set(&self.path),
                "path",
                "files are not read by path: send them to /api/blobs and name them in `files`",
            ),
        ];
        match refused.into_iter().find(|(is_set, ..)| *is_set) {
            Some((_, field, what)) => Err(unsupported(field, what)),
            None => Ok(()),
        }
    }
}

const QUANTIZE: &str = "the service does not quantize: run `hearthctl quantize`, then import the \
                        result";

/// Names of files with their digests.
fn digests(
    field: &str,
    files: Option<Object<Map<String, Value>>>,
) -> Result<Vec<(String, String)>, Failure> {
    let files = files.unwrap_or_default().0.into_iter();
    let pair = |(name, digest): (String, Value)| {
        let Value::String(digest) = digest else {
            let what = format!("must have a digest for {}", quote(&name));
            return Err(Failure::invalid_field(field, what));
        };
        Ok((name, digest))
    };
    files.map(pair).collect()
}

/// A text, or several.
#[derive(Debug)]
struct License(String);

deserialize_by_shape!(License);

impl<'de> Shape<'de> for License {
    const WHAT: &'static str = "must be a string or a list of strings";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self(text.to_owned()))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let texts: Vec<String> = List::<Text>::list(list)?.into();
        Ok(Self(texts.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn create(body: &Value) -> Result<Create, Failure> {
        decode_create(body.to_string().as_bytes())
    }

    #[test]
    fn a_create_request_is_read() {
        let create = create(&json!({
            "model": "brief", "from": "m:latest", "stream": false, "system": "Be brief.",
            "template": "", "license": ["a", "b"], "quantize": "", "renderer": "x", "info": {},
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
            "parameters": {"temperature": 0.5, "stop": ["x"], "num_predict": 9, "num_ctx": 512},
            "adapters": {"a.gguf": "sha256:12"}, "files": null,
        }));
        let create = create.unwrap();
        assert_eq!(
            (create.name.as_str(), create.from.as_str()),
            ("brief", "m:latest")
        );
        assert_eq!(
            (create.system.as_str(), create.license.as_str()),
            ("Be brief.", "a\nb")
        );
        assert_eq!((create.messages.len(), create.stream), (2, false));
        assert_eq!(create.sampling.temperature, Some(0.5));
        assert_eq!(
            (create.max_tokens, create.context_max),
            (Some(9), Some(512))
        );
        assert_eq!(create.stop, ["x"]);
        assert_eq!(create.parameters["num_ctx"], 512);
        assert_eq!(create.adapters, [("a.gguf".into(), "sha256:12".into())]);
        assert!(create.files.is_empty());
    }

    #[test]
    fn errors_name_the_field() {
        let with = |field: &str, value: Value| {
            let mut body = json!({"model": "new", "from": "m"});
            body[field] = value;
            body
        };
        for (body, field) in [
            (json!({"from": "m"}), "model"),
            (json!({"model": "new"}), "from"),
            (json!({"model": "new", "files": {}}), "from"),
            (with("from", json!(3)), "from"),
            (with("files", json!(["x"])), "files"),
            (with("files", json!({"x.gguf": 3})), "files"),
            (with("adapters", json!("x")), "adapters"),
            (with("license", json!(3)), "license"),
            (with("system", json!(3)), "system"),
            (
                with("parameters", json!({"temperature": "hot"})),
                "parameters.temperature",
            ),
            (with("messages", json!([{"content": "x"}])), "messages[0]"),
            (
                with("messages", json!([{"role": "tool"}])),
                "messages[0].role",
            ),
            (with("quantize", json!("q4_0")), "quantize"),
            (with("quantization", json!("q4_0")), "quantization"),
            (with("draft_files", json!({"a": "b"})), "draft_files"),
            (with("remote_host", json!("x")), "remote_host"),
            (with("modelfile", json!("FROM x")), "modelfile"),
            (with("path", json!("/x")), "path"),
            (with("stream", json!("no")), "stream"),
        ] {
            let error = create(&body).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{body}: {error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            _ = decode_create(&body);
        }
    }
}
