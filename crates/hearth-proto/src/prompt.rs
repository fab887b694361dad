//! The input of a request.

use serde::{Deserialize, Serialize};

use super::{Media, MediaKind, Message, Use};

/// The input that the model continues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Messages, rendered by the chat template of the model file.
    Chat {
        /// The conversation, oldest first.
        messages: Vec<Message>,
        /// Tools offered to the model, in OpenAI form.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tools: Vec<serde_json::Value>,
    },
    /// Text without template.
    Text(String),
    /// Texts and tokens in their order, without template.
    Mixed(Vec<PromptPart>),
    /// The text between two others.
    Infill(Box<Infill>),
}

/// A part of a prompt that is not text alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptPart {
    /// A text; the first part gets the token that begins a text, if the model has one.
    Text(String),
    /// Tokens of the model's vocabulary, taken as they are.
    Tokens(Vec<i32>),
}

impl From<&str> for PromptPart {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A text of which a vector is wanted: texts and tokens in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedInput(pub Vec<PromptPart>);

impl EmbedInput {
    /// Its size; a token counts as the usual bytes of its text.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(PromptPart::bytes).sum()
    }
}

impl From<&str> for EmbedInput {
    fn from(text: &str) -> Self {
        Self(vec![text.into()])
    }
}

impl From<String> for EmbedInput {
    fn from(text: String) -> Self {
        Self(vec![PromptPart::Text(text)])
    }
}

impl PromptPart {
    /// Its size; a token counts as the usual bytes of its text.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(tokens) => size_of_val(tokens.as_slice()),
        }
    }
}

impl Prompt {
    /// The use that a model must support for this prompt.
    pub fn wanted(&self) -> Use {
        match self {
            Self::Chat { .. } if self.has(MediaKind::Picture) => Use::Vision,
            Self::Chat { .. } if self.has(MediaKind::Sound) => Use::Audio,
            Self::Chat { .. } => Use::Chat,
            Self::Text(_) | Self::Mixed(_) => Use::Completion,
            Self::Infill(_) => Use::Infill,
        }
    }

    /// A prompt of tokens alone.
    pub fn tokens(tokens: Vec<i32>) -> Self {
        Self::Mixed(vec![PromptPart::Tokens(tokens)])
    }

    fn has(&self, kind: MediaKind) -> bool {
        self.media().any(|media| media.kind == kind)
    }

    /// The pictures and sounds in it, in order.
    pub fn media(&self) -> impl Iterator<Item = &Media> {
        let messages = match self {
            Self::Chat { messages, .. } => messages.as_slice(),
            Self::Text(_) | Self::Mixed(_) | Self::Infill(_) => &[],
        };
        messages.iter().flat_map(|message| &message.media)
    }
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// The texts around the one that the model writes. The engine arranges them with the tokens
/// that the model's vocabulary has for this; in the texts themselves, names of such tokens are
/// ordinary text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Infill {
    /// The text before. Its beginning is omitted if it is too long.
    pub prefix: String,
    /// The text after. Its end is omitted if it is too long.
    pub suffix: String,
    /// What the model's text begins with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// Other files of the project, put before the rest in the form of a repository where the
    /// vocabulary has tokens for that; the first ones are omitted if they are too long. `None`:
    /// not in the form of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Vec<Snippet>>,
}

impl Infill {
    /// The bytes of all texts.
    pub fn bytes(&self) -> usize {
        let extra = self.extra.iter().flatten();
        let extra: usize = extra.map(|s| s.filename.len() + s.text.len()).sum();
        self.prefix.len() + self.suffix.len() + self.prompt.len() + extra
    }
}

/// A part of another file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snippet {
    /// The name of the file.
    pub filename: String,
    /// Its text, or a part.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_with_pictures_or_sounds_is_a_use_of_its_own() {
        let with = |kinds: &[MediaKind]| {
            let media = kinds.iter().map(|kind| Media {
                kind: *kind,
                ..Media::default()
            });
            let message = Message {
                media: media.collect(),
                ..Message::default()
            };
            let chat = Prompt::Chat {
                messages: vec![Message::default(), message, Message::default()],
                tools: Vec::new(),
            };
            chat.wanted()
        };
        assert_eq!(with(&[]), Use::Chat);
        assert_eq!(with(&[MediaKind::Sound]), Use::Audio);
        assert_eq!(with(&[MediaKind::Sound, MediaKind::Picture]), Use::Vision);
    }

    #[test]
    fn all_texts_count() {
        let infill = Infill {
            prefix: "ab".into(),
            suffix: "c".into(),
            prompt: "d".into(),
            extra: Some(vec![Snippet {
                filename: "e.rs".into(),
                text: "fg".into(),
            }]),
        };
        assert_eq!(infill.bytes(), 10);
    }
}
