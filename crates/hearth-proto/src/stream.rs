//! The events of a request, and the answer that they add up to.

use crate::{
    AnswerPart, Failure, FailureKind, FinishReason, RequestId, TokenLogprob, ToolCall, Usage,
};

/// The events of a request, in this order: any number of `Queued`, then `Started`, any
/// number of `Prefill` and `Token`, and last exactly one `Finished` or `Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// Waiting behind this many others.
    Queued {
        /// 0 is next.
        position: u32,
    },
    /// The engine has accepted it.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// How many of these were found in the prefix cache.
        cached_tokens: u32,
    },
    /// Prompt tokens done so far.
    Prefill {
        /// Of `prompt_tokens`.
        done: u32,
        /// If requested: these tokens with their probabilities; 1 for the first of the prompt.
        logprobs: Vec<TokenLogprob>,
    },
    /// More of the answer.
    Token {
        /// The parts that are final by now; may be empty.
        parts: Vec<AnswerPart>,
        /// Tokens generated so far.
        generated: u32,
        /// The tokens themselves; they may belong to text that is still held back.
        tokens: Vec<i32>,
        /// If requested: the tokens with their probabilities.
        logprobs: Vec<TokenLogprob>,
    },
    /// The answer is complete.
    Finished {
        /// Why.
        reason: FinishReason,
        /// The stop string of the request that ended it, if one did.
        stop_string: Option<String>,
        /// Token counts and times.
        usage: Usage,
    },
    /// There will be no complete answer.
    Failed(Failure),
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The request that it answers.
    pub id: RequestId,
    /// The text.
    pub content: String,
    /// Reasoning of the model before its answer.
    pub reasoning: String,
    /// The tool calls.
    pub calls: Vec<ToolCall>,
    /// Why it ended.
    pub reason: FinishReason,
    /// The stop string of the request that ended it, if one did.
    pub stop_string: Option<String>,
    /// Its tokens.
    pub tokens: Vec<i32>,
    /// Token counts and times.
    pub usage: Usage,
    /// The model that gave it.
    pub model: String,
    /// Whether probabilities were requested: an answer without tokens has none in any case.
    pub wants_logprobs: bool,
    /// If requested: the tokens with their probabilities.
    pub logprobs: Vec<TokenLogprob>,
    /// If requested: those of the prompt.
    pub prompt_logprobs: Vec<TokenLogprob>,
}

impl Answer {
    /// An answer that has not begun.
    pub fn new(id: RequestId, model: &str) -> Self {
        Self {
            id,
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            reason: FinishReason::Stop,
            stop_string: None,
            tokens: Vec::new(),
            usage: Usage::default(),
            model: model.to_owned(),
            wants_logprobs: false,
            logprobs: Vec::new(),
            prompt_logprobs: Vec::new(),
        }
    }

    /// The answer, if it had to match a constraint.
    ///
    /// # Errors
    /// `ContextTooLong` if it was cut off.
    pub fn whole_json(self) -> Result<Self, Failure> {
        match self.reason {
            FinishReason::Stop => Ok(self),
            FinishReason::Length => Err(Failure::new(
                FailureKind::ContextTooLong,
                format!(
                    "the JSON was not complete after {} tokens; bound it in the schema \
                     (`maxLength`, `maxItems`), or raise `sampling.max_tokens` or \
                     `model.context`",
                    self.usage.completion_tokens
                ),
            )),
        }
    }

    fn push(&mut self, part: AnswerPart) {
        match part {
            AnswerPart::Content(more) => self.content.push_str(&more),
            AnswerPart::Reasoning(more) => self.reasoning.push_str(&more),
            AnswerPart::ToolCall(call) => self.calls.push(call),
        }
    }

    /// Adds an event; returns true if this completes the answer.
    ///
    /// # Errors
    /// The failure of [`StreamEvent::Failed`].
    pub fn add(&mut self, event: StreamEvent) -> Result<bool, Failure> {
        match event {
            StreamEvent::Queued { .. } | StreamEvent::Started { .. } => {}
            StreamEvent::Prefill { logprobs, .. } => self.prompt_logprobs.extend(logprobs),
            StreamEvent::Token {
                parts,
                tokens,
                logprobs,
                ..
            } => {
                for part in parts {
                    self.push(part);
                }
                self.tokens.extend(tokens);
                self.logprobs.extend(logprobs);
            }
            StreamEvent::Finished {
                reason,
                stop_string,
                usage,
            } => {
                self.reason = reason;
                self.stop_string = stop_string;
                self.usage = usage;
                return Ok(true);
            }
            StreamEvent::Failed(failure) => return Err(failure),
        }
        Ok(false)
    }
}
