//! Watches free text for the beginning of a call.

use hearth_proto::{Failure, FailureKind};
use llguidance::toktrie::TokenId;

use super::beginning::{Beginning, beginning};
use super::calls::{BareCalls, CallGrammar, compile, compile_text};
use super::error::first_line;
use super::reasoning::ReasoningTags;
use super::vocabulary::Vocabulary;

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
            Failure::new(FailureKind::InvalidSchema, first_line(&error.to_string()))
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
