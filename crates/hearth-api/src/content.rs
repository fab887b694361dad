//! What messages of all APIs have in common.

use hearth_proto::{Failure, FailureKind, Media};
use serde::Deserialize;
use serde::de::{Error, SeqAccess};
use serde_json::Value;

use crate::media::{picture, sound};
use crate::read::{join, quote};
use crate::scalars::Text;
use crate::shape::{List, Object, Shape, deserialize_by_shape};

/// A message's content: a text, or a list of parts.
#[derive(Debug)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message's content.
#[derive(Debug, Deserialize)]
pub(crate) struct Part {
    #[serde(rename = "type")]
    pub kind: Option<Text>,
    pub text: Option<Text>,
    pub refusal: Option<Text>,
    pub image_url: Option<Value>,
    pub input_audio: Option<Value>,
}

deserialize_by_shape!(Content);

impl<'de> Shape<'de> for Content {
    const WHAT: &'static str = "must be a string or a list of parts";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self::Text(text.to_owned()))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let List(parts) = List::<Object<Part>>::list(list)?;
        Ok(Self::Parts(parts.into_iter().map(|part| part.0).collect()))
    }
}

impl Content {
    /// The text of a chat's message, whose place in the request this is, and the pictures and
    /// sounds in it.
    pub(crate) fn into_text(self, message: &str) -> Result<(String, Vec<Media>), Failure> {
        let place = join(message, "content");
        let parts = match self {
            Self::Text(text) => return Ok((text, Vec::new())),
            Self::Parts(parts) => parts,
        };
        let (mut text, mut media) = (String::new(), Vec::new());
        for (n, part) in parts.into_iter().enumerate() {
            let here = format!("{place}[{n}]");
            match (part.kind.as_ref().map(|kind| kind.0.as_str()), part.text) {
                (Some("text"), Some(more)) => text.push_str(&more.0),
                (Some("text"), None) => {
                    let what = "of type \"text\" must have a `text`";
                    return Err(Failure::invalid_field(&here, what));
                }
                (Some("image_url"), _) => {
                    media.push(picture(&here, part.image_url.as_ref(), text.len())?);
                }
                (Some("input_audio"), _) => {
                    media.push(sound(&here, part.input_audio.as_ref(), text.len())?);
                }
                (kind, _) => {
                    return Err(Failure::of_field(
                        FailureKind::NotSupported,
                        &here,
                        format_args!(
                            "is of type {}; \"text\", \"image_url\" and \"input_audio\" are \
                             supported",
                            quote(kind.unwrap_or("?"))
                        ),
                    ));
                }
            }
        }
        Ok((text, media))
    }
}

/// The roles of messages, as OpenAI and Ollama name them.
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// A message's role. `developer` is OpenAI's newer name for `system`, `function` the older one
/// for `tool`.
///
/// # Errors
/// `InvalidArgs` where no template knows the role.
pub(crate) fn role(role: String, place: &str) -> Result<String, Failure> {
    match role.as_str() {
        "developer" => Ok("system".into()),
        "function" => Ok("tool".into()),
        name if ROLES.contains(&name) => Ok(role),
        other => Err(Failure::invalid_field(
            &join(place, "role"),
            format_args!(
                "is {}: it must be \"system\", \"user\", \"assistant\" or \"tool\"",
                quote(other)
            ),
        )),
    }
}

/// An earlier call of the model. Templates expect `arguments` as an object; OpenAI sends it
/// as a string.
pub(crate) fn tool_call(mut call: Value) -> Value {
    if let Some(arguments) = call.pointer_mut("/function/arguments")
        && let Some(parsed) = arguments
            .as_str()
            .and_then(|s| serde_json::from_str(s).ok())
    {
        *arguments = parsed;
    }
    call
}
