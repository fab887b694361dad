//! The streaming parser.

use std::mem;

use super::call::{self, ToolCall, ValueEnd};
use super::format::{self, Next};
use super::{THINK, THINK_END};
use crate::prompt::stream::overlap;
use crate::protocol::CallFormat;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text for the reader.
    Content(String),
    /// What the model thought before it answered.
    Reasoning(String),
    /// A whole call.
    ToolCall(ToolCall),
}

/// How an answer is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The form of calls; `None`: calls are not looked for.
    pub calls: Option<CallFormat>,
    /// Names of the tools offered: others are not called. None means any.
    pub tools: Vec<String>,
    /// Whether the prompt ended with an open `<think>`.
    pub in_reasoning: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing came yet but whitespace and, perhaps, reasoning.
    Start { after_reasoning: bool },
    /// Between the marks of reasoning.
    Reasoning {
        /// There was some.
        begun: bool,
    },
    /// Content, at least up to the next marker.
    Text,
    /// All of the answer may be calls.
    Bare {
        calls: Vec<ToolCall>,
        /// They end here in `held`.
        done: usize,
    },
    /// A call is expected.
    Calls {
        /// Bytes of the marker in front; 0 behind a call.
        marker: usize,
    },
}

/// A call's JSON as far as it has come.
#[derive(Debug)]
struct Pending {
    at: usize,
    end: ValueEnd,
    name: Option<String>,
}

/// What became of a [`Pending`].
enum Value {
    Incomplete,
    /// It was none, seen before any of it was read.
    Other,
    /// It ends here, and is this.
    Complete(usize, Option<Vec<ToolCall>>),
}

/// Takes an answer apart while it comes. However the answer is cut, the parts are the
/// same but for where content and reasoning are cut.
///
/// Held back is only what may yet turn out to be a marker or a call. What turns out to
/// be neither is content: it is never lost and never run. Whitespace beside calls and
/// reasoning is dropped.
#[derive(Debug)]
pub struct AnswerParser {
    reading: Reading,
    state: State,
    /// Text not decided on.
    held: String,
    pending: Option<Pending>,
    /// Whitespace behind the content, which belongs to it only if more follows.
    space: String,
    /// The next content loses the whitespace in front.
    trim: bool,
    /// There was content.
    spoke: bool,
    /// There was a call.
    called: bool,
    parts: Vec<Part>,
}

impl AnswerParser {
    /// A parser for one answer.
    pub fn new(reading: Reading) -> Self {
        Self {
            state: if reading.in_reasoning {
                State::Reasoning { begun: false }
            } else {
                State::Start {
                    after_reasoning: false,
                }
            },
            reading,
            held: String::new(),
            pending: None,
            space: String::new(),
            trim: false,
            spoke: false,
            called: false,
            parts: Vec::new(),
        }
    }

    /// Adds text of the answer and returns what is certain by now.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        while self.step(false) {}
        mem::take(&mut self.parts)
    }

    /// The answer is over: returns what is left.
    pub fn finish(&mut self) -> Vec<Part> {
        while self.step(true) {}
        let space = mem::take(&mut self.space);
        if !self.called && !space.is_empty() {
            self.put(Part::Content(space));
        }
        mem::take(&mut self.parts)
    }

    /// Takes a whole answer apart.
    pub fn read(reading: Reading, answer: &str) -> Vec<Part> {
        let mut parser = Self::new(reading);
        parser.parts = parser.push(answer);
        parser.finish()
    }

    /// Decides on some of what is held; false where more text is needed.
    fn step(&mut self, end: bool) -> bool {
        match self.state {
            State::Start { after_reasoning } => self.start(after_reasoning, end),
            State::Reasoning { begun } => self.reasoning(begun, end),
            State::Text => self.text(end),
            State::Bare { done, .. } => self.bare(done, end),
            State::Calls { marker } => self.calls(marker, end),
        }
    }

    fn start(&mut self, after_reasoning: bool, end: bool) -> bool {
        let rest = self.held.trim_start();
        if !end && (rest.is_empty() || !after_reasoning && THINK.starts_with(rest)) {
            return false;
        }
        self.state = if !after_reasoning && rest.starts_with(THINK) {
            State::Reasoning { begun: false }
        } else if rest.starts_with(['{', '['])
            && self.reading.calls.is_some_and(format::may_be_bare)
        {
            State::Bare {
                calls: Vec::new(),
                done: 0,
            }
        } else {
            State::Text
        };
        true
    }

    fn reasoning(&mut self, begun: bool, end: bool) -> bool {
        if !begun {
            // Also models that begin inside it may write the marker once more.
            let rest = self.held.trim_start();
            if !end && THINK.starts_with(rest) {
                return false;
            }
            if let Some(rest) = rest.strip_prefix(THINK) {
                self.held = rest.to_owned();
                return true;
            }
            self.held = rest.to_owned();
        }
        if let Some((thought, rest)) = self.held.split_once(THINK_END) {
            let (thought, rest) = (thought.trim_end().to_owned(), rest.to_owned());
            self.put(Part::Reasoning(thought));
            self.held = rest;
            self.state = State::Start {
                after_reasoning: true,
            };
            self.trim = true;
            return true;
        }
        let may_end = if end {
            0
        } else {
            overlap(&self.held, THINK_END)
        };
        let ready = self.take(self.held.len() - may_end);
        let thought = ready.trim_end();
        if !end {
            self.held.insert_str(0, &ready[thought.len()..]);
        }
        self.state = State::Reasoning {
            begun: begun || !thought.is_empty(),
        };
        self.put(Part::Reasoning(thought.to_owned()));
        false
    }

    fn text(&mut self, end: bool) -> bool {
        let open = self.reading.calls.and_then(format::open);
        let found = open.and_then(|open| Some((self.held.find(open)?, open.len())));
        let may_open = match open {
            Some(open) if !end => overlap(&self.held, open),
            _ => 0,
        };
        let ready = found.map_or(self.held.len() - may_open, |(at, _)| at);
        self.say(ready);
        if let Some((_, marker)) = found {
            self.state = State::Calls { marker };
        }
        found.is_some()
    }

    fn calls(&mut self, marker: usize, end: bool) -> bool {
        if self.pending.is_some() {
            match self.value(false) {
                Value::Incomplete if end => self.leave(self.held.len()),
                Value::Incomplete => return false,
                Value::Other => self.leave(marker),
                Value::Complete(stop, None) => self.leave(stop),
                Value::Complete(stop, Some(calls)) => {
                    self.take(stop);
                    self.state = State::Calls { marker: 0 };
                    self.call(calls);
                }
            }
            return true;
        }
        let format = self.reading.calls.unwrap_or_default();
        let rest = self.held.get(marker..).unwrap_or_default();
        let next = if marker > 0 {
            format::first(format, rest)
        } else {
            format::further(format, rest)
        };
        match next {
            Next::Unknown if !end => return false,
            // Separators, or the begin of an end that is forgiven.
            Next::Unknown if marker == 0 => self.held.clear(),
            Next::Unknown | Next::Other => self.leave(marker),
            Next::End(length) => {
                self.take(marker + length);
                self.leave(0);
            }
            Next::Value(at, name) => {
                let name = name.map(str::to_owned);
                self.expect(marker + at, name);
                return true;
            }
        }
        self.state = State::Text;
        true
    }

    fn bare(&mut self, done: usize, end: bool) -> bool {
        if self.pending.is_some() {
            match self.value(true) {
                Value::Incomplete if end => self.leave(self.held.len()),
                Value::Incomplete => return false,
                Value::Other => self.leave(done),
                Value::Complete(stop, None) => self.leave(stop),
                Value::Complete(stop, Some(more)) => {
                    if let State::Bare { calls, done } = &mut self.state {
                        calls.extend(more);
                        *done = stop;
                    }
                }
            }
            return true;
        }
        let rest = self.held.get(done..).unwrap_or_default();
        let value = rest.trim_start_matches(format::is_separator);
        match value.chars().next() {
            None if end => {
                self.held.clear();
                if let State::Bare { calls, .. } = mem::replace(&mut self.state, State::Text) {
                    self.call(calls);
                }
            }
            None => return false,
            Some('{' | '[') => self.expect(self.held.len() - value.len(), None),
            Some(_) => self.leave(done),
        }
        true
    }

    fn expect(&mut self, at: usize, name: Option<String>) {
        self.pending = Some(Pending {
            at,
            end: ValueEnd::new(at),
            name,
        });
    }

    fn value(&mut self, strict: bool) -> Value {
        let Some(pending) = &mut self.pending else {
            return Value::Other;
        };
        let text = self.held.get(pending.at..).unwrap_or_default();
        if pending.name.is_none() && !call::is_plausible(text) {
            return Value::Other;
        }
        let Some(stop) = pending.end.find(&self.held) else {
            return Value::Incomplete;
        };
        let text = self.held.get(pending.at..stop).unwrap_or_default();
        let calls = match &pending.name {
            Some(name) => call::with_name(name, text),
            None => call::parse(text, strict),
        };
        self.pending = None;
        let offered = |call: &ToolCall| {
            self.reading.tools.is_empty() || self.reading.tools.contains(&call.name)
        };
        Value::Complete(stop, calls.filter(|calls| calls.iter().all(offered)))
    }

    /// So many bytes are content after all, and what follows is looked at as text.
    fn leave(&mut self, bytes: usize) {
        self.pending = None;
        self.state = State::Text;
        self.say(bytes);
    }

    fn call(&mut self, calls: Vec<ToolCall>) {
        self.called = true;
        if !self.spoke {
            self.space.clear();
            self.trim = true;
        }
        self.parts.extend(calls.into_iter().map(Part::ToolCall));
    }

    /// Moves content from what is held to the parts.
    fn say(&mut self, bytes: usize) {
        let text = self.take(bytes);
        let mut text = text.as_str();
        if self.trim {
            text = text.trim_start();
        }
        if text.is_empty() {
            return;
        }
        self.trim = false;
        let shown = match self.reading.calls {
            Some(_) => text.trim_end().len(),
            None => text.len(),
        };
        let (shown, space) = text.split_at(shown);
        if !shown.is_empty() {
            let mut content = mem::take(&mut self.space);
            content.push_str(shown);
            self.spoke = true;
            self.put(Part::Content(content));
        }
        self.space.push_str(space);
    }

    /// Takes bytes off the front of what is held.
    fn take(&mut self, bytes: usize) -> String {
        let rest = self.held.split_off(bytes);
        mem::replace(&mut self.held, rest)
    }

    fn put(&mut self, part: Part) {
        match (self.parts.last_mut(), part) {
            (_, Part::Content(text) | Part::Reasoning(text)) if text.is_empty() => {}
            (Some(Part::Content(last)), Part::Content(more))
            | (Some(Part::Reasoning(last)), Part::Reasoning(more)) => last.push_str(&more),
            (_, part) => self.parts.push(part),
        }
    }
}
