//! Answers in llama-server's own form.

use hearth_proto::{Answer, FinishReason, TokenLogprob, Usage};
use serde::Serialize;
use serde_json::{Map, Value};

use super::completion::CompletionForm;
use crate::encode::value;
use crate::timings::Timings;

/// No slot in particular: a request may change it while it waits.
pub(super) const NO_SLOT: i32 = -1;

/// What is known of an answer before it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompletionContext {
    /// The text of its prompt.
    pub prompt: String,
    /// The most tokens that it may have; `None`: as many as the context holds.
    pub max_tokens: Option<u32>,
    /// Whether its time is bounded.
    pub is_timed: bool,
}

/// A whole answer, or the end of a streamed one. Fields are sent in this order.
#[derive(Serialize)]
pub(super) struct Completion<'a> {
    index: usize,
    content: &'a str,
    pub(super) tokens: &'a [i32],
    id_slot: i32,
    stop: bool,
    model: &'a str,
    pub(super) tokens_predicted: u32,
    tokens_evaluated: u32,
    pub(super) generation_settings: Value,
    prompt: &'a str,
    pub(super) has_new_line: bool,
    truncated: bool,
    stop_type: &'static str,
    stopping_word: &'a str,
    tokens_cached: u32,
    timings: Timings,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) completion_probabilities: Vec<Probabilities>,
}

/// The likely tokens in the place of one token.
#[derive(Serialize)]
pub(super) struct Probabilities {
    #[serde(flatten)]
    chosen: Probability,
    top_logprobs: Vec<Probability>,
}

#[derive(Serialize)]
struct Probability {
    id: i32,
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) reason: FinishReason,
    pub(super) stop_string: Option<&'a str>,
    pub(super) usage: &'a Usage,
}

/// The response with an answer, whose place among all is `index`, and whose settings are these.
pub fn completion_response(
    index: usize,
    answer: &Answer,
    context: &CompletionContext,
    settings: Value,
    form: &CompletionForm,
) -> Value {
    let end = End {
        reason: answer.reason,
        stop_string: answer.stop_string.as_deref(),
        usage: &answer.usage,
    };
    let content = if form.is_empty { "" } else { &answer.content };
    let wants_tokens = form.return_tokens && !form.is_empty;
    let mut body = completion(index, (content, content), &answer.model, context, end);
    body.generation_settings = settings;
    body.tokens = if wants_tokens { &answer.tokens } else { &[] };
    body.completion_probabilities = probabilities(&answer.logprobs);
    if form.is_empty {
        body.tokens_predicted = 0;
    }
    chosen(value(&body), &form.response_fields)
}

/// The end of an answer, still without its settings: `content` is sent with it, `text` is the
/// whole one.
pub(super) fn completion<'a>(
    index: usize,
    (content, text): (&'a str, &str),
    model: &'a str,
    context: &'a CompletionContext,
    end: End<'a>,
) -> Completion<'a> {
    let usage = end.usage;
    let is_cut = end.reason == FinishReason::Length;
    let is_bounded = context.is_timed
        || (context.max_tokens).is_some_and(|most| usage.completion_tokens >= most);
    Completion {
        index,
        content,
        tokens: &[],
        id_slot: NO_SLOT,
        stop: true,
        model,
        tokens_predicted: usage.completion_tokens,
        tokens_evaluated: usage.prompt_tokens,
        generation_settings: Value::Null,
        prompt: &context.prompt,
        has_new_line: text.contains('\n'),
        truncated: is_cut && !is_bounded,
        stop_type: match (end.reason, end.stop_string) {
            (FinishReason::Length, _) => "limit",
            (FinishReason::Stop, Some(_)) => "word",
            (FinishReason::Stop, None) => "eos",
        },
        stopping_word: end.stop_string.unwrap_or_default(),
        tokens_cached: usage.cached_tokens,
        timings: Timings::new(usage),
        completion_probabilities: Vec::new(),
    }
}

/// The fields of a response at these paths, each under its path; all without paths.
pub(super) fn chosen(body: Value, paths: &[String]) -> Value {
    if paths.is_empty() {
        return body;
    }
    let at = |path: &String| {
        let pointer = format!("/{}", path.trim_start_matches('/'));
        Some((path.clone(), body.pointer(&pointer)?.clone()))
    };
    Value::Object(paths.iter().filter_map(at).collect::<Map<String, Value>>())
}

pub(super) fn probabilities(tokens: &[TokenLogprob]) -> Vec<Probabilities> {
    let one = |id, bytes: &[u8], logprob| Probability {
        id,
        token: String::from_utf8_lossy(bytes).into_owned(),
        bytes: bytes.to_vec(),
        logprob,
    };
    let token = |token: &TokenLogprob| {
        let top = token.top_ids.iter().zip(&token.top);
        Probabilities {
            chosen: one(token.id, &token.bytes, token.logprob),
            top_logprobs: top.map(|(id, (bytes, p))| one(*id, bytes, *p)).collect(),
        }
    };
    tokens.iter().map(token).collect()
}

#[cfg(test)]
pub(super) mod tests;
