//! The blocks that show something: texts, pictures, documents, search results.

use std::fmt::Display;

use hearth_proto::{Failure, FailureKind, Media, MediaKind};
use serde::Deserialize;
use serde::de::{Error, SeqAccess};
use serde_json::{Map, Value};

use crate::media::medium;
use crate::read::{join, quote, read_in};
use crate::scalars::Text;
use crate::shape::{List, Object, Shape, deserialize_by_shape};

/// A block: its fields depend on its type.
pub(super) type Block = Map<String, Value>;

/// A content: a text, or a list of blocks.
#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

deserialize_by_shape!(Content);

impl<'de> Shape<'de> for Content {
    const WHAT: &'static str = "must be a string or a list of blocks";

    fn text<E: Error>(text: &str) -> Result<Self, E> {
        Ok(Self::Text(text.to_owned()))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let List(blocks) = List::<Object<Block>>::list(list)?;
        let blocks = blocks.into_iter().map(|block| block.0);
        Ok(Self::Blocks(blocks.collect()))
    }
}

/// A text, and the pictures in it.
#[derive(Debug, Default)]
pub(super) struct Rich {
    pub text: String,
    pub media: Vec<Media>,
}

#[derive(Debug, Deserialize)]
struct TextBlock {
    text: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct SourceBlock {
    source: Option<Object<Source>>,
    title: Option<Text>,
    context: Option<Text>,
}

/// Where a picture or a document is.
#[derive(Debug, Deserialize)]
struct Source {
    #[serde(rename = "type")]
    kind: Option<Text>,
    data: Option<Text>,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
struct SearchResult {
    title: Option<Text>,
    source: Option<Text>,
    content: Option<Content>,
}

impl Content {
    /// The content at this place in the request, of texts, pictures and documents alone.
    pub(super) fn into_rich(self, place: &str) -> Result<Rich, Failure> {
        let mut rich = Rich::default();
        match self {
            Self::Text(text) => rich.text = text,
            Self::Blocks(blocks) => {
                for (n, block) in blocks.iter().enumerate() {
                    let place = format!("{place}[{n}]");
                    let kind = kind(&place, block)?;
                    if !rich.add(&place, kind, block)? && !is_skipped(kind) {
                        return Err(unsupported(&place, kind));
                    }
                }
            }
        }
        Ok(rich)
    }
}

impl Rich {
    /// Adds a block of this type; `false` where it is none that is shown.
    pub(super) fn add(&mut self, place: &str, kind: &str, block: &Block) -> Result<bool, Failure> {
        match kind {
            "text" => {
                let block: TextBlock = read_in(place, block)?;
                self.text += &needed(block.text, place, "text")?;
            }
            "image" => {
                let block: SourceBlock = read_in(place, block)?;
                let (place, kind, source) = source(place, block.source)?;
                if kind != "base64" {
                    return Err(elsewhere(&place, &kind, "the picture in base64"));
                }
                let data = needed(source.data, &place, "data")?;
                let at = self.text.len();
                self.media.push(medium(
                    &join(&place, "data"),
                    MediaKind::Picture,
                    &data,
                    at,
                )?);
            }
            "document" => self.add_document(place, read_in(place, block)?)?,
            "search_result" => {
                let found: SearchResult = read_in(place, block)?;
                for text in [found.title, found.source].into_iter().flatten() {
                    self.paragraph(&text.0);
                }
                let content = found.content.unwrap_or(Content::Text(String::new()));
                self.append(content.into_rich(&join(place, "content"))?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn add_document(&mut self, place: &str, block: SourceBlock) -> Result<(), Failure> {
        let (place, kind, source) = source(place, block.source)?;
        let content = match kind.as_str() {
            "text" => Rich {
                text: needed(source.data, &place, "data")?,
                media: Vec::new(),
            },
            "content" => {
                let content = source.content;
                let missing = || Failure::invalid_field(&place, "needs a `content`");
                content
                    .ok_or_else(missing)?
                    .into_rich(&join(&place, "content"))?
            }
            "base64" => {
                return Err(not_supported(
                    &place,
                    "is a PDF, which is not supported: send its text, with a source of type \
                     \"text\"",
                ));
            }
            other => return Err(elsewhere(&place, other, "the text")),
        };
        for text in [block.title, block.context].into_iter().flatten() {
            self.paragraph(&text.0);
        }
        self.append(content);
        Ok(())
    }

    /// Adds a text and an empty line, where there is one.
    fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            self.text += text;
            self.text += "\n\n";
        }
    }

    /// Adds another one and an empty line.
    fn append(&mut self, other: Self) {
        let at = self.text.len();
        self.media.extend(other.media.into_iter().map(|mut media| {
            media.at += at;
            media
        }));
        self.paragraph(&other.text);
    }
}

fn source(
    place: &str,
    source: Option<Object<Source>>,
) -> Result<(String, String, Source), Failure> {
    let missing = || Failure::invalid_field(place, "needs a `source`");
    let mut source = source.ok_or_else(missing)?.0;
    let place = join(place, "source");
    let kind = needed(source.kind.take(), &place, "type")?;
    Ok((place, kind, source))
}

pub(super) fn kind<'a>(place: &str, block: &'a Block) -> Result<&'a str, Failure> {
    let kind = block.get("type").and_then(Value::as_str);
    kind.ok_or_else(|| Failure::invalid_field(place, "needs a `type`"))
}

/// Blocks that belong to tools of Anthropic's own service, or that only it can read. In a
/// conversation that began there they are left out.
pub(super) fn is_skipped(kind: &str) -> bool {
    let other_tools = [
        "server_tool_use",
        "mcp_tool_use",
        "tool_reference",
        "browser_state",
    ];
    other_tools.contains(&kind)
        || kind.ends_with("_tool_result")
        || matches!(
            kind,
            "redacted_thinking" | "container_upload" | "compaction"
        )
}

pub(super) fn needed(text: Option<Text>, place: &str, name: &str) -> Result<String, Failure> {
    let missing = || Failure::invalid_field(place, format_args!("needs a `{name}`"));
    text.map(Into::into).ok_or_else(missing)
}

/// The refusal of a source that would have to be fetched.
fn elsewhere(place: &str, kind: &str, instead: &str) -> Failure {
    not_supported(
        place,
        format_args!(
            "of type {} is not supported: this service fetches nothing, send {instead}",
            quote(kind)
        ),
    )
}

pub(super) fn unsupported(place: &str, kind: &str) -> Failure {
    not_supported(
        place,
        format_args!(
            "of type {} is not supported here: texts, images, documents, search results, \
             thinking, tool uses and their results are",
            quote(kind)
        ),
    )
}

pub(super) fn not_supported(field: &str, what: impl Display) -> Failure {
    Failure::of_field(FailureKind::NotSupported, field, what)
}
