//! Tool calls: as the whole answer, or begun by the model in free text.

use std::fmt::Write;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::TokenId;
use serde_json::{Value, json};

use super::bounds;
use super::grammar::{first_line, with_options};
use super::vocabulary::Vocabulary;
use crate::protocol::{CallFormat, Failure, FailureKind, ToolChoice};

/// As many as `OpenAI` takes.
const MAX_TOOLS: usize = 128;
/// Calls of one answer; more of them are a model that goes round in circles.
const MAX_CALLS: usize = 16;

/// A tool as far as it matters here.
struct Tool {
    name: String,
    arguments: Value,
}

/// Bounds the tools, and whether `choice` can be met.
pub(super) fn check(tools: &[Value], choice: &ToolChoice) -> Result<(), Failure> {
    let tools = match choice {
        ToolChoice::None => return Ok(()),
        _ => read(tools)?,
    };
    match choice {
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            Err(Failure::invalid(format!(
                "`tool_choice` names {name:?}, which is not among `tools`; offer it or choose another"
            )))
        }
        ToolChoice::Required if tools.is_empty() => Err(Failure::invalid(
            "`tool_choice` asks for a call, but there are no `tools`; offer at least one",
        )),
        _ => Ok(()),
    }
}

/// The grammar of an answer that is nothing but calls: of one tool where it is
/// named, else of any, several where the form allows that.
pub(super) fn required(
    vocabulary: &Vocabulary,
    format: CallFormat,
    tools: &[Value],
    name: Option<&str>,
) -> Result<llguidance::Matcher, Failure> {
    let mut tools = read(tools)?;
    if let Some(name) = name {
        tools.retain(|tool| tool.name == name);
    }
    let form = Form::of(format);
    let more = if name.is_some() { 0 } else { MAX_CALLS - 1 };
    let again = match format {
        CallFormat::Hermes if more > 0 => format!("(\"\\n\"? open calls){{0,{more}}}"),
        _ => String::new(),
    };
    let mut lark = match form.marker {
        Some(marker) => format!(
            "start: open calls {again}\nopen: {}\n",
            spelled(vocabulary, marker)
        ),
        None => "start: calls\n".to_owned(),
    };
    lark.push_str(&form.calls(vocabulary, more));
    compile(vocabulary, &form, lark, &tools)
}

/// How a model writes calls.
struct Form {
    format: CallFormat,
    /// What a call begins with where free text surrounds it.
    marker: Option<&'static str>,
    /// The key of the arguments.
    key: &'static str,
}

impl Form {
    fn of(format: CallFormat) -> Self {
        let (marker, key) = match format {
            CallFormat::Hermes => (Some("<tool_call>"), "arguments"),
            CallFormat::Mistral => (Some("[TOOL_CALLS]"), "arguments"),
            CallFormat::Llama => (None, "parameters"),
            CallFormat::Json => (None, "arguments"),
        };
        Self {
            format,
            marker,
            key,
        }
    }

    /// The rule of what follows the marker.
    fn calls(&self, vocabulary: &Vocabulary, more: usize) -> String {
        match self.format {
            CallFormat::Hermes => format!(
                "calls: \"\\n\"? tool \"\\n\"? close\nclose: {}\n",
                spelled(vocabulary, "</tool_call>")
            ),
            CallFormat::Mistral if more > 0 => {
                format!("calls: \" \"? \"[\" tool (\", \" tool){{0,{more}}} \"]\"\n")
            }
            CallFormat::Mistral => "calls: \" \"? \"[\" tool \"]\"\n".to_owned(),
            CallFormat::Llama | CallFormat::Json => "calls: tool\n".to_owned(),
        }
    }
}

/// The text in Lark, and beside it the control token of that name where there is one.
fn spelled(vocabulary: &Vocabulary, text: &str) -> String {
    match vocabulary.special(text) {
        Some(id) => format!("{} | <[{id}]>", quoted(text)),
        None => quoted(text),
    }
}

/// A Lark string: JSON's, but for one character.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn compile(
    vocabulary: &Vocabulary,
    form: &Form,
    mut lark: String,
    tools: &[Tool],
) -> Result<llguidance::Matcher, Failure> {
    let names: Vec<String> = (0..tools.len()).map(|n| format!("tool_{n}")).collect();
    let _ = writeln!(lark, "tool: {}", names.join(" | "));
    for (n, tool) in tools.iter().enumerate() {
        // As the templates of these models write it, blanks and all, arguments too:
        // what the model has learned, and most of it comes without a decode.
        let begin = format!(
            "{{\"name\": {}, \"{}\": ",
            Value::from(&*tool.name),
            form.key
        );
        let _ = writeln!(lark, "tool_{n}: {} arguments_{n} \"}}\"", quoted(&begin));
        let _ = writeln!(lark, "arguments_{n}: %json {}", tool.arguments);
    }
    vocabulary
        .compile(TopLevelGrammar::from_lark(lark))
        .map_err(|error| {
            // Whose fault? Each by itself, which costs only where something is wrong.
            for tool in tools {
                let alone = TopLevelGrammar::from_json_schema(tool.arguments.clone());
                if let Err(error) = vocabulary.compile(alone) {
                    return invalid(&tool.name, &first_line(&error));
                }
            }
            Failure::new(
                FailureKind::InvalidSchema,
                format!(
                    "the tools cannot be used together: {}; offer fewer or simpler ones",
                    first_line(&error)
                ),
            )
        })
}

fn invalid(tool: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::InvalidSchema,
        format!("the parameters of the tool {tool:?} cannot be used: {why}"),
    )
}

fn read(tools: &[Value]) -> Result<Vec<Tool>, Failure> {
    if tools.len() > MAX_TOOLS {
        return Err(Failure::invalid(format!(
            "there are {} `tools`, at most {MAX_TOOLS} are allowed; offer fewer",
            tools.len()
        )));
    }
    tools.iter().map(read_one).collect()
}

fn read_one(tool: &Value) -> Result<Tool, Failure> {
    let function = tool.get("function").unwrap_or(&Value::Null);
    let Some(name) = function.get("name").and_then(Value::as_str) else {
        return Err(Failure::invalid(
            "each of `tools` needs a `function` with a `name`",
        ));
    };
    let mut schema = match function.get("parameters") {
        None | Some(Value::Null) => json!({}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => return Err(invalid(name, "they must be a JSON schema, an object")),
    };
    bounds::schema(&schema).map_err(|failure| invalid(name, &failure.message))?;
    if let Some(map) = schema.as_object_mut() {
        if map.entry("type").or_insert_with(|| "object".into()) != "object" {
            return Err(invalid(name, "at \"/type\" must stand \"object\""));
        }
        // Models make up arguments where they may.
        if map.contains_key("properties") {
            map.entry("additionalProperties").or_insert(false.into());
        }
    }
    let strict = function.get("strict") == Some(&Value::Bool(true));
    let options = json!({
        "item_separator": ", ",
        "key_separator": ": ",
        "whitespace_flexible": false,
        "lenient": !strict,
    });
    Ok(Tool {
        name: name.to_owned(),
        arguments: with_options(&schema, options)?,
    })
}

/// Waits in free text for the model to begin a call.
#[derive(Clone)]
pub(super) struct Watch {
    /// At the begin of a call, behind the marker.
    fresh: llguidance::Matcher,
    marker: Option<&'static str>,
    /// The last bytes of text, fewer than the marker has.
    tail: Vec<u8>,
    /// Whether there was nothing but whitespace since the begin or the last call.
    blank: bool,
    /// Tokens that could end a marker and go on behind it.
    suspects: Vec<TokenId>,
}

impl Watch {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        format: CallFormat,
        tools: &[Value],
    ) -> Result<Self, Failure> {
        let form = Form::of(format);
        // Many models have the line end behind a call in its last token.
        let lark = format!(
            "start: calls /[ \\n]{{1,2}}/?\n{}",
            form.calls(vocabulary, MAX_CALLS - 1)
        );
        let fresh = compile(vocabulary, &form, lark, &read(tools)?)?;
        let suspect = |id: &TokenId| {
            let text = vocabulary.text(*id);
            match form.marker.and_then(|m| m.bytes().last()) {
                Some(last) => text.iter().rev().skip(1).any(|b| *b == last),
                None => text.trim_ascii_start().starts_with(b"{"),
            }
        };
        let size = TokenId::try_from(vocabulary.trie().vocab_size()).unwrap_or(0);
        Ok(Self {
            suspects: (0..size).filter(suspect).collect(),
            fresh,
            marker: form.marker,
            tail: Vec::new(),
            blank: true,
        })
    }

    /// What must not come although the text is free: tokens that begin a call and in
    /// the same breath spoil it.
    pub(super) fn forbidden<'a>(
        &'a self,
        vocabulary: &'a Vocabulary,
    ) -> impl Iterator<Item = TokenId> + 'a {
        self.suspects.iter().copied().filter(|&id| {
            self.enters(vocabulary.text(id))
                .is_some_and(|rest| self.begin(vocabulary, &rest).is_none())
        })
    }

    /// Moves on over a token; a call's grammar where it began one.
    pub(super) fn accept(
        &mut self,
        vocabulary: &Vocabulary,
        id: TokenId,
    ) -> Option<llguidance::Matcher> {
        let text = vocabulary.text(id);
        if let Some(rest) = self.enters(text)
            && let Some(call) = self.begin(vocabulary, &rest)
        {
            self.tail.clear();
            self.blank = true;
            return Some(call);
        }
        // A control token is no text: Llama's `<|python_tag|>` stands before calls.
        if vocabulary.trie().is_special_token(id) {
            self.tail.clear();
            return None;
        }
        self.blank &= text.trim_ascii_start().is_empty();
        self.tail.extend_from_slice(text);
        let keep = self.marker.map_or(0, |m| m.len() - 1);
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        None
    }

    /// What `text` brings of a call, if one begins within it.
    fn enters(&self, text: &[u8]) -> Option<Vec<u8>> {
        let Some(marker) = self.marker.map(str::as_bytes) else {
            let text = text.trim_ascii_start();
            return (self.blank && text.starts_with(b"{")).then(|| text.to_vec());
        };
        let joined = [&self.tail, text].concat();
        let at = joined.windows(marker.len()).position(|w| w == marker)?;
        joined.get(at + marker.len()..).map(<[u8]>::to_vec)
    }

    /// A call that has begun with `rest`; `None` where none begins so.
    fn begin(&self, vocabulary: &Vocabulary, rest: &[u8]) -> Option<llguidance::Matcher> {
        let mut call = self.fresh.clone();
        if rest.is_empty() {
            return Some(call);
        }
        let trie = vocabulary.trie();
        let tokens = trie.greedy_tokenize(rest);
        let fits = trie.decode_raw(&tokens) == rest
            && call.validate_tokens(&tokens).ok()? == tokens.len()
            && call.consume_tokens(&tokens).is_ok();
        fits.then_some(call)
    }
}
