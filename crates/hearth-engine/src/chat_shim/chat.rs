//! Typed access to templates and parsers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ffi::{ChatHandle, ParserHandle};

/// Why the layer returned no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The layer's own error message: the template does not compile, raises an exception,
    /// or the answer does not have the template's format.
    #[error("{0}")]
    Refused(String),
    /// The layer's reply could not be decoded, or there was no memory for it.
    #[error("the chat layer failed: {0}")]
    Failed(String),
}

/// The capabilities of a template, which the layer detects by rendering examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Abilities {
    /// It renders several calls of one message.
    pub supports_parallel_tool_calls: bool,
    /// It supports the system role.
    pub supports_system_role: bool,
}

/// What to render.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RenderRequest {
    /// Messages in `OpenAI`'s format.
    pub messages: Vec<Value>,
    /// Tools in `OpenAI`'s format.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// `auto`, `required` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<&'static str>,
    /// Whether one answer may contain several calls.
    pub parallel_tool_calls: bool,
    /// The template's `enable_thinking`.
    pub enable_thinking: bool,
    /// Further variables of the template.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
    /// Whether the model continues the last message, which is the assistant's.
    pub continue_final_message: bool,
    /// Seconds since 1970; the template sees it as local time.
    pub now: i64,
}

/// What activates the grammar of tool calls.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", content = "value")]
pub enum Trigger {
    /// The answer contains this text; the grammar begins with it.
    Word(String),
    /// The answer matches this regular expression.
    Pattern(String),
}

/// A prompt, and how its answer is parsed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Rendered {
    /// Text for the model, with the names of control tokens.
    pub prompt: String,
    /// The layer's number for the format of the answer.
    format: i32,
    /// The serialized parser of the answer.
    parser: String,
    /// The last part of `prompt`, which belongs to the answer.
    pub generation_prompt: String,
    /// GBNF of tool calls; empty where there is none.
    pub grammar: String,
    /// What activates it.
    pub grammar_triggers: Vec<Trigger>,
    /// Control tokens that are text of the answer.
    pub preserved_tokens: Vec<String>,
    /// Stop strings of this template.
    pub additional_stops: Vec<String>,
    /// Whether the model may reason.
    pub supports_thinking: bool,
    /// Text that begins the reasoning; may be empty.
    pub thinking_start_tag: String,
    /// Texts that end it.
    pub thinking_end_tags: Vec<String>,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct Chat {
    handle: ChatHandle,
    abilities: Abilities,
}

impl Chat {
    /// Compiles a template; an empty one selects `ChatML`. `bos` and `eos` are the texts
    /// of the BOS and EOS tokens.
    ///
    /// # Errors
    /// [`ChatError::Refused`] where the template does not compile.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, ChatError> {
        let (handle, answer) = ChatHandle::new(source, bos, eos);
        let abilities = decoded(answer)?;
        let handle = handle.ok_or_else(|| ChatError::Failed("no template".into()))?;
        Ok(Self { handle, abilities })
    }

    /// The capabilities of the template.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Renders a prompt.
    ///
    /// # Errors
    /// [`ChatError::Refused`] where the template or the layer refuses the request.
    pub fn render(&self, request: &RenderRequest) -> Result<Rendered, ChatError> {
        let request = serde_json::to_string(request).map_err(|e| failed(&e))?;
        decoded(self.handle.render(&request))
    }
}

/// One call in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ParsedCall {
    /// The function's name; its beginning while the answer is partial.
    pub name: String,
    /// Its arguments as JSON text; its beginning while the answer is partial.
    pub arguments: String,
    /// The model's own id of the call; mostly empty.
    pub id: String,
}

/// A parsed answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ParsedAnswer {
    /// Text for the user.
    pub content: String,
    /// The reasoning before it.
    pub reasoning: String,
    /// Tool calls.
    pub tool_calls: Vec<ParsedCall>,
}

/// The maximum nesting of brackets that is passed to the layer: its parser recurses, and
/// the JSON parser after it does not accept deeper nesting either.
const NESTING_MAX: usize = 200;

/// Parses the answer to one prompt.
#[derive(Debug)]
pub struct Parser {
    handle: ParserHandle,
    /// The nesting of brackets at the end of the prompt.
    depth: usize,
}

impl Parser {
    /// A parser of the answer to a prompt.
    ///
    /// # Errors
    /// [`ChatError::Failed`].
    pub fn new(rendered: &Rendered) -> Result<Self, ChatError> {
        /// The fields that the shim reads.
        #[derive(Serialize)]
        struct Params<'a> {
            format: i32,
            parser: &'a str,
            generation_prompt: &'a str,
        }
        let params = serde_json::to_string(&Params {
            format: rendered.format,
            parser: &rendered.parser,
            generation_prompt: &rendered.generation_prompt,
        });
        let (handle, answer) = ParserHandle::new(&params.map_err(|e| failed(&e))?);
        let () = decoded(answer)?;
        let handle = handle.ok_or_else(|| ChatError::Failed("no parser".into()))?;
        let (depth, deepest) = nesting(&rendered.generation_prompt, 0);
        check_nesting(deepest)?;
        Ok(Self { handle, depth })
    }

    /// Parses the complete answer, or (`is_partial`) its beginning.
    ///
    /// # Errors
    /// [`ChatError::Refused`] where the text does not have the template's format.
    pub fn parse(&self, text: &str, is_partial: bool) -> Result<ParsedAnswer, ChatError> {
        check_nesting(nesting(text, self.depth).1)?;
        decoded(self.handle.parse(text, is_partial))
    }
}

fn check_nesting(deepest: usize) -> Result<(), ChatError> {
    if deepest <= NESTING_MAX {
        return Ok(());
    }
    Err(ChatError::Refused(format!(
        "the answer has more than {NESTING_MAX} brackets within each other"
    )))
}

/// The nesting of brackets after a text that begins at `depth`, and the greatest nesting
/// in it.
fn nesting(text: &str, mut depth: usize) -> (usize, usize) {
    let mut deepest = depth;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    (depth, deepest)
}

/// The shim's reply.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply<T> {
    Ok(T),
    Error(String),
}

fn decoded<T: for<'de> Deserialize<'de>>(reply: Option<String>) -> Result<T, ChatError> {
    let reply = reply.ok_or_else(|| ChatError::Failed("no memory".into()))?;
    match serde_json::from_str(&reply).map_err(|e| failed(&e))? {
        Reply::Ok(value) => Ok(value),
        Reply::Error(message) => Err(ChatError::Refused(message)),
    }
}

fn failed(error: &serde_json::Error) -> ChatError {
    ChatError::Failed(error.to_string())
}
