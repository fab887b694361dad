//! Answers taken apart as their request wants it.

use super::Offer;
use crate::prompt::{AnswerParser, Part, ToolCall};
use crate::protocol::{CallFormat, FinishReason};
use crate::service::Answer;

/// Takes an answer apart while it comes.
#[derive(Debug)]
pub struct Reader {
    offer: Offer,
    parser: AnswerParser,
    /// Calls so far.
    calls: usize,
}

/// A complete answer, taken apart.
#[derive(Debug, Default)]
pub(in crate::service) struct Whole {
    /// Its text.
    pub content: String,
    /// What the model thought.
    pub reasoning: String,
    /// What it calls.
    pub calls: Vec<ToolCall>,
    /// `OpenAI`'s word for why it ended.
    pub reason: &'static str,
}

impl Whole {
    /// Takes an answer to a request with this offer apart.
    pub(in crate::service) fn read(answer: &Answer, offer: &Offer) -> Self {
        let mut reader = Reader::new(offer.clone());
        reader.start(answer.call_format, answer.in_reasoning);
        let mut parts = reader.push(&answer.text);
        parts.extend(reader.finish());
        let mut whole = Self {
            reason: reader.reason(answer.reason),
            ..Self::default()
        };
        for (_, part) in parts {
            match part {
                Part::Content(more) => whole.content.push_str(&more),
                Part::Reasoning(more) => whole.reasoning.push_str(&more),
                Part::ToolCall(call) => whole.calls.push(call),
            }
        }
        whole
    }
}

impl Reader {
    /// A reader of one answer to a request with this offer.
    pub fn new(offer: Offer) -> Self {
        Self {
            parser: AnswerParser::new(offer.reading(CallFormat::default(), false)),
            offer,
            calls: 0,
        }
    }

    /// Tells how the model answers, before its first text.
    pub fn start(&mut self, call_format: CallFormat, in_reasoning: bool) {
        self.parser = AnswerParser::new(self.offer.reading(call_format, in_reasoning));
    }

    /// Adds text; returns what is certain by now. A call comes with its number, from 0.
    pub fn push(&mut self, text: &str) -> Vec<(usize, Part)> {
        let parts = self.parser.push(text);
        self.wanted(parts)
    }

    /// The rest, when no more text comes.
    pub fn finish(&mut self) -> Vec<(usize, Part)> {
        let parts = self.parser.finish();
        self.wanted(parts)
    }

    /// `OpenAI`'s word for why the answer ended.
    pub fn reason(&self, reason: FinishReason) -> &'static str {
        if self.calls == 0 {
            reason.as_str()
        } else {
            "tool_calls"
        }
    }

    fn wanted(&mut self, parts: Vec<Part>) -> Vec<(usize, Part)> {
        let mut wanted = Vec::new();
        for part in parts {
            let is_call = matches!(part, Part::ToolCall(_));
            if is_call && !self.offer.takes(self.calls) {
                continue;
            }
            wanted.push((self.calls, part));
            self.calls += usize::from(is_call);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_and_bounded_by_the_offer() {
        let call = "<tool_call>{\"name\": \"f\"}</tool_call>";
        for (one_call, numbers) in [(false, &[0, 1][..]), (true, &[0])] {
            let mut reader = Reader::new(Offer {
                names: vec!["f".into()],
                one_call,
            });
            reader.start(CallFormat::Hermes, true);
            assert_eq!(reader.reason(FinishReason::Length), "length");
            let mut parts = reader.push("Hm.</think>Yes.");
            for _ in 0..2 {
                parts.extend(reader.push(call));
            }
            parts.extend(reader.finish());
            let calls: Vec<usize> = parts
                .iter()
                .filter(|(_, part)| matches!(part, Part::ToolCall(_)))
                .map(|(number, _)| *number)
                .collect();
            assert_eq!(calls, numbers);
            assert_eq!(parts[0].1, Part::Reasoning("Hm.".into()));
            assert_eq!(reader.reason(FinishReason::Stop), "tool_calls");
        }
    }
}
