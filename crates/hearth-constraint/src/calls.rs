//! Tool calls: as the whole answer, or begun by the model in free text.

use hearth_proto::{Failure, FailureKind, ToolCall, ToolChoice};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::TokenId;
use serde_json::Value;

use super::reasoning::ReasoningTags;
use super::vocabulary::Vocabulary;
use super::{bounds, gbnf, grammar};

/// The most tools in one request, as in `OpenAI`'s API.
const MAX_TOOLS: usize = 128;
/// Bytes of all tools together, as text: templates and grammars are built from them for
/// each request.
const MAX_BYTES: usize = 512 * 1024;

/// The form of calls of the offered tools, by the model's chat template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallGrammar {
    /// GBNF with a rule that matches calls alone.
    pub gbnf: String,
    /// Texts that begin a call in free text; none: a call is the whole answer, and begins
    /// with `{`.
    pub triggers: Vec<String>,
    /// Control tokens that belong to the form, by their text.
    pub controls: Vec<String>,
    /// The answer consists of calls only.
    pub is_forced: bool,
    /// At most one call.
    pub one_call: bool,
    /// Calls written as JSON at the beginning of an answer, in free text.
    pub bare: Option<BareCalls>,
}

/// Calls written as JSON without the marks around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BareCalls {
    /// GBNF with a rule that matches calls alone.
    pub gbnf: String,
    /// The marks around the JSON in this grammar.
    pub marks: [String; 2],
}

/// Checks the size of the tools, and that `choice` can be met.
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
    // After its name was read, each of them is within bounds, and flat enough for
    // recursion.
    let names = tools.iter().map(name).collect::<Result<Vec<_>, _>>()?;
    check_rules(&names)?;
    let bytes = serde_json::to_string(tools).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_BYTES {
        return Err(Failure::invalid(format!(
            "the `tools` have {bytes} bytes together, at most {MAX_BYTES} are allowed; offer \
             fewer or simpler ones"
        )));
    }
    match choice {
        ToolChoice::Named(name) if !names.contains(&name.as_str()) => Err(Failure::invalid_field(
            "tool_choice",
            format!("names {name:?}, which is not among `tools`; offer it or choose another"),
        )),
        ToolChoice::Required if tools.is_empty() => Err(Failure::invalid_field(
            "tool_choice",
            "asks for a call, but there are no `tools`; offer at least one",
        )),
        _ => Ok(()),
    }
}

/// The chat layer's grammar has a rule named `tool-` and the name for each tool, and rules
/// of its own with the same prefix; of two rules with one name it silently drops one.
fn check_rules(names: &[&str]) -> Result<(), Failure> {
    const OWN: [&str; 4] = ["call", "calls", "call-root", "call-first"];
    let rules: Vec<String> = names.iter().map(|name| rule(name)).collect();
    for (name, rule) in names.iter().zip(&rules) {
        if OWN.contains(&rule.as_str()) {
            return Err(Failure::invalid(format!(
                "a tool cannot be named {name:?}: llama.cpp's chat layer uses the name itself; \
                 rename it"
            )));
        }
        let same = |(other, others): &(&&str, &String)| {
            let parts = others.strip_prefix(rule.as_str());
            *other != name
                && parts.is_some_and(|rest| {
                    rest.is_empty() || rest == "-schema" || rest.starts_with("-arg-")
                })
        };
        if let Some((other, _)) = names.iter().zip(&rules).find(same) {
            return Err(Failure::invalid(format!(
                "llama.cpp's chat layer takes the names of the tools {name:?} and {other:?} for \
                 the same; rename one"
            )));
        }
    }
    Ok(())
}

/// A tool's name as part of a rule's name.
fn rule(name: &str) -> String {
    let mut rule = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '-' {
            rule.push(c);
        } else if !rule.ends_with('\u{0}') {
            rule.push('\u{0}');
        }
    }
    rule.replace('\u{0}', "-")
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

/// The failure of a tool with invalid parameters.
pub fn invalid(tool: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::InvalidSchema,
        format!("the parameters of the tool {tool:?} cannot be used: {why}"),
    )
}

/// A matcher that allows only calls.
pub(super) fn compile(
    vocabulary: &Vocabulary,
    calls: &CallGrammar,
) -> Result<llguidance::Matcher, Failure> {
    compile_text(
        vocabulary,
        &calls.gbnf,
        calls.one_call,
        &calls.controls,
        &[],
    )
}

fn compile_text(
    vocabulary: &Vocabulary,
    gbnf: &str,
    one_call: bool,
    controls: &[String],
    marks: &[String],
) -> Result<llguidance::Matcher, Failure> {
    let control = |name: &String| Some((name.clone(), vocabulary.special(name)?));
    let controls: Vec<(String, TokenId)> = controls.iter().filter_map(control).collect();
    let unusable = |why: &str| {
        Failure::new(
            FailureKind::InvalidSchema,
            format!("the tools cannot be used together: {why}; offer fewer or simpler ones"),
        )
    };
    let lark =
        gbnf::calls_to_lark(gbnf, one_call, &controls, marks).map_err(|error| unusable(&error))?;
    vocabulary
        .compile(TopLevelGrammar::from_lark(lark))
        .map_err(|error| unusable(&grammar::first_line(&error)))
}

/// Watches free text for the beginning of a call.
#[derive(Clone)]
pub(super) struct Watch {
    /// At the beginning of a call, before its trigger.
    fresh: llguidance::Matcher,
    triggers: Vec<String>,
    /// The last bytes of text, fewer than the longest trigger has.
    tail: Vec<u8>,
    /// Only whitespace so far.
    blank: bool,
    /// Tokens that could end a trigger and continue after it.
    suspects: Vec<TokenId>,
    /// Calls without a trigger; none once the answer has begun in another way.
    bare: Option<Bare>,
}

/// Watches for a call at the beginning of an answer.
#[derive(Clone)]
struct Bare {
    /// Before the JSON.
    fresh: llguidance::Matcher,
    /// Tokens that begin JSON but not a call.
    spoilers: Vec<TokenId>,
    /// The text so far: whitespace, the opening of a code fence.
    begun: Vec<u8>,
}

impl Bare {
    /// `openers` are the other texts that may begin an answer and be control tokens.
    fn new(
        vocabulary: &Vocabulary,
        bare: &BareCalls,
        one_call: bool,
        openers: &[&str],
    ) -> Result<Self, Failure> {
        let mut fresh = compile_text(vocabulary, &bare.gbnf, one_call, &[], &bare.marks)?;
        let allowed = fresh.compute_mask().map_err(|error| {
            Failure::new(
                FailureKind::InvalidSchema,
                grammar::first_line(&error.to_string()),
            )
        })?;
        let opens = |text: &[u8]| openers.iter().any(|o| o.as_bytes().starts_with(text));
        // The result would be neither a call nor free text, but an incomplete call.
        let spoils = |id: &TokenId| {
            let text = vocabulary.text(*id);
            if vocabulary.is_control(*id) {
                return !opens(text);
            }
            text.trim_ascii_start().starts_with(b"{") && !allowed.is_allowed(*id)
        };
        let size = TokenId::try_from(vocabulary.trie().vocab_size()).unwrap_or(0);
        Ok(Self {
            spoilers: (0..size).filter(spoils).collect(),
            fresh,
            begun: Vec::new(),
        })
    }
}

/// What the beginning of an answer can be.
#[derive(Debug, PartialEq, Eq)]
pub enum Beginning<'a> {
    /// A call, from its JSON on.
    Call(&'a [u8]),
    /// Not determined yet.
    Open,
    /// Text.
    Text,
}

/// The calls in a JSON text, up to the first incomplete one.
pub fn bare_calls(text: &str) -> Vec<ToolCall> {
    #[derive(serde::Deserialize)]
    struct Bare {
        name: String,
        arguments: serde_json::Map<String, Value>,
    }
    let mut calls = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Bare>();
        let Some(Ok(call)) = values.next() else {
            return calls;
        };
        calls.push(ToolCall::new(call.name, call.arguments.into()));
        rest = rest.get(values.byte_offset()..).unwrap_or_default();
    }
}

/// Classifies the beginning of an answer: JSON, bare or in a code fence, or text.
pub fn beginning(answer: &[u8]) -> Beginning<'_> {
    const FENCE: &[u8] = b"```";
    let text = answer.trim_ascii_start();
    if text.is_empty() || text.len() < FENCE.len() && FENCE.starts_with(text) {
        return Beginning::Open;
    }
    if text.starts_with(b"{") {
        return Beginning::Call(text);
    }
    let Some(inside) = text.strip_prefix(FENCE) else {
        return Beginning::Text;
    };
    let language = b"json".as_slice();
    let inside = match inside.strip_prefix(language) {
        Some(rest) => rest,
        None if inside.len() < language.len() && language.starts_with(inside) => {
            return Beginning::Open;
        }
        None => inside,
    };
    let inside = inside.trim_ascii_start();
    match inside.first() {
        None => Beginning::Open,
        Some(b'{') => Beginning::Call(inside),
        Some(_) => Beginning::Text,
    }
}

impl Watch {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        calls: &CallGrammar,
        reasoning: Option<&ReasoningTags>,
    ) -> Result<Self, Failure> {
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
        let bare = calls.bare.as_ref();
        let triggers = calls.triggers.iter().map(String::as_str);
        let openers: Vec<&str> = triggers
            .chain(reasoning.map(|t| t.start.as_str()))
            .collect();
        let bare = bare.map(|bare| Bare::new(vocabulary, bare, calls.one_call, &openers));
        Ok(Self {
            suspects: (0..size).filter(suspect).collect(),
            fresh,
            triggers: calls.triggers.clone(),
            tail: Vec::new(),
            blank: true,
            bare: bare.transpose()?,
        })
    }

    /// Tokens forbidden in free text: those that begin a call and contain text that makes
    /// it invalid.
    pub(super) fn forbidden<'a>(
        &'a self,
        vocabulary: &'a Vocabulary,
    ) -> impl Iterator<Item = TokenId> + 'a {
        let spoils = |id: &TokenId| {
            self.entered(vocabulary.text(*id))
                .is_some_and(|begun| self.begin(vocabulary, &begun).is_none())
        };
        let bare = self.bare.iter().flat_map(|bare| bare.spoilers.iter());
        let suspects = self.suspects.iter().filter(move |id| spoils(id));
        suspects.chain(bare).copied()
    }

    /// Advances over a text; returns the matcher of the calls if one began in it.
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
        if let Some(call) = self.begin_bare(vocabulary, text) {
            return Some(call);
        }
        self.blank &= text.trim_ascii_start().is_empty();
        self.tail.extend_from_slice(text);
        let longest = self.triggers.iter().map(String::len).max();
        let keep = longest.map_or(0, |length| length - 1);
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        None
    }

    /// The matcher of a call that begins with JSON, if the text is the beginning of an
    /// answer.
    fn begin_bare(&mut self, vocabulary: &Vocabulary, text: &[u8]) -> Option<llguidance::Matcher> {
        let mut bare = self.bare.take()?;
        bare.begun.extend_from_slice(text);
        match beginning(&bare.begun) {
            Beginning::Text => None,
            Beginning::Open => {
                self.bare = Some(bare);
                None
            }
            Beginning::Call(json) => {
                let mut call = bare.fresh;
                feed(vocabulary, &mut call, json).then_some(call)
            }
        }
    }

    /// The part of a call in `text`, from the trigger on, if one begins within it.
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

    /// The matcher of a call that begins with these bytes; `None` if none does.
    fn begin(&self, vocabulary: &Vocabulary, begun: &[u8]) -> Option<llguidance::Matcher> {
        let mut call = self.fresh.clone();
        feed(vocabulary, &mut call, begun).then_some(call)
    }
}

/// Advances a matcher over bytes, control tokens by their names; returns whether they fit.
pub(super) fn feed(
    vocabulary: &Vocabulary,
    matcher: &mut llguidance::Matcher,
    bytes: &[u8],
) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let trie = vocabulary.trie();
    // A control token can only be at the start: triggers begin with it.
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
