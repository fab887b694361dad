//! Tool calls: as the whole answer, or begun by the model in free text.

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::TokenId;
use serde_json::Value;

use super::vocabulary::Vocabulary;
use super::{bounds, gbnf, grammar};
use crate::protocol::{Failure, FailureKind, ToolChoice};

/// As many as `OpenAI` takes.
const MAX_TOOLS: usize = 128;
/// Of all tools together, as text: templates and grammars are made of them anew for each
/// request.
const MAX_BYTES: usize = 512 * 1024;

/// How a model writes calls of the tools offered, by its chat template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallGrammar {
    /// GBNF with a rule for calls alone.
    pub gbnf: String,
    /// Texts that a call begins with in free text; none: a call is the whole answer, and
    /// begins with `{`.
    pub triggers: Vec<String>,
    /// Control tokens that belong to the form, by their texts.
    pub controls: Vec<String>,
    /// The answer is calls and nothing else.
    pub is_forced: bool,
    /// At most one call.
    pub one_call: bool,
}

/// Bounds the tools, and whether `choice` can be met.
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
    // Each of them is within bounds, and flat enough for the recursion, once named.
    let names = tools.iter().map(name).collect::<Result<Vec<_>, _>>()?;
    let bytes = serde_json::to_string(tools).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_BYTES {
        return Err(Failure::invalid(format!(
            "the `tools` have {bytes} bytes together, at most {MAX_BYTES} are allowed; offer \
             fewer or simpler ones"
        )));
    }
    match choice {
        ToolChoice::Named(name) if !names.contains(&name.as_str()) => {
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
            if map.get("type").is_some_and(|kind| kind != "object") {
                return Err(invalid(name, "at \"/type\" must stand \"object\""));
            }
        }
        Some(_) => return Err(invalid(name, "they must be a JSON schema, an object")),
    }
    Ok(name)
}

/// The failure of a tool whose parameters are at fault.
pub(crate) fn invalid(tool: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::InvalidSchema,
        format!("the parameters of the tool {tool:?} cannot be used: {why}"),
    )
}

/// A matcher of calls and nothing else.
pub(super) fn compile(
    vocabulary: &Vocabulary,
    calls: &CallGrammar,
) -> Result<llguidance::Matcher, Failure> {
    let control = |name: &String| Some((name.clone(), vocabulary.special(name)?));
    let controls: Vec<(String, TokenId)> = calls.controls.iter().filter_map(control).collect();
    let unusable = |why: &str| {
        Failure::new(
            FailureKind::InvalidSchema,
            format!("the tools cannot be used together: {why}; offer fewer or simpler ones"),
        )
    };
    let lark = gbnf::calls_to_lark(&calls.gbnf, calls.one_call, &controls)
        .map_err(|error| unusable(&error))?;
    vocabulary
        .compile(TopLevelGrammar::from_lark(lark))
        .map_err(|error| unusable(&grammar::first_line(&error)))
}

/// Waits in free text for the model to begin a call.
#[derive(Clone)]
pub(super) struct Watch {
    /// Where calls begin, trigger and all.
    fresh: llguidance::Matcher,
    triggers: Vec<String>,
    /// The last bytes of text, fewer than the longest trigger has.
    tail: Vec<u8>,
    /// Nothing but whitespace came yet.
    blank: bool,
    /// Tokens that could end a trigger and go on behind it.
    suspects: Vec<TokenId>,
}

impl Watch {
    pub(super) fn new(vocabulary: &Vocabulary, calls: &CallGrammar) -> Result<Self, Failure> {
        let fresh = compile(vocabulary, calls)?;
        let suspect = |id: &TokenId| {
            let text = vocabulary.text(*id);
            if calls.triggers.is_empty() {
                return text.trim_ascii_start().starts_with(b"{");
            }
            calls.triggers.iter().any(|trigger| {
                let last = trigger.bytes().last();
                text.iter().rev().skip(1).any(|b| Some(*b) == last)
            })
        };
        let size = TokenId::try_from(vocabulary.trie().vocab_size()).unwrap_or(0);
        Ok(Self {
            suspects: (0..size).filter(suspect).collect(),
            fresh,
            triggers: calls.triggers.clone(),
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
            self.entered(vocabulary.text(id))
                .is_some_and(|begun| self.begin(vocabulary, &begun).is_none())
        })
    }

    /// Moves on over a text; the matcher of the calls where it began one.
    pub(super) fn accept(
        &mut self,
        vocabulary: &Vocabulary,
        text: &[u8],
    ) -> Option<llguidance::Matcher> {
        if let Some(begun) = self.entered(text)
            && let Some(call) = self.begin(vocabulary, &begun)
        {
            return Some(call);
        }
        self.blank &= text.trim_ascii_start().is_empty();
        self.tail.extend_from_slice(text);
        let longest = self.triggers.iter().map(String::len).max();
        let keep = longest.map_or(0, |length| length - 1);
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        None
    }

    /// As much of a call as has come with `text`, from the trigger on, if one begins
    /// within it.
    fn entered(&self, text: &[u8]) -> Option<Vec<u8>> {
        if self.triggers.is_empty() {
            let text = text.trim_ascii_start();
            return (self.blank && text.starts_with(b"{")).then(|| text.to_vec());
        }
        let joined = [&self.tail, text].concat();
        let find = |trigger: &String| {
            let trigger = trigger.as_bytes();
            joined.windows(trigger.len()).position(|w| w == trigger)
        };
        let at = self.triggers.iter().filter_map(find).min()?;
        joined.get(at..).map(<[u8]>::to_vec)
    }

    /// A call that has begun with these bytes; `None` where none begins so.
    fn begin(&self, vocabulary: &Vocabulary, begun: &[u8]) -> Option<llguidance::Matcher> {
        let mut call = self.fresh.clone();
        feed(vocabulary, &mut call, begun).then_some(call)
    }
}

/// Moves a matcher on over bytes, control tokens by their names; whether they fit.
pub(super) fn feed(
    vocabulary: &Vocabulary,
    matcher: &mut llguidance::Matcher,
    bytes: &[u8],
) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let trie = vocabulary.trie();
    // A control token stands in front where there is one: triggers begin with it.
    let control = (1..=bytes.len()).rev().find_map(|end| {
        let name = std::str::from_utf8(bytes.get(..end)?).ok()?;
        Some((vocabulary.special(name)?, end))
    });
    let (mut tokens, rest) = match control {
        Some((id, end)) => (vec![id], bytes.get(end..).unwrap_or_default()),
        None => (Vec::new(), bytes),
    };
    let text = trie.greedy_tokenize(rest);
    if trie.decode_raw(&text) != rest {
        return false;
    }
    tokens.extend(text);
    matcher.validate_tokens(&tokens).ok() == Some(tokens.len())
        && matcher.consume_tokens(&tokens).is_ok()
}
