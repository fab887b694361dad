//! Text completions: a prompt without a template.

use std::fmt::Write as _;

use hearth_proto::{
    Answer, AnswerPart, Failure, FailureKind, FinishReason, Infill, Prompt, RequestId,
    TokenLogprob, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::request::{ChatRequest, at_most, common};
use super::response::{UsageBody, total, unix_seconds, usage};
use crate::Chunks;
use crate::encode::value;
use crate::read::{object, read};
use crate::scalars::{Text, Whole};
use crate::texts::Texts;

/// The most alternatives reported for each token (OpenAI's own bound).
const LOGPROBS_MAX: u8 = 5;
/// The same under llama.cpp's name, as many as the engine reports.
const PROBS_MAX: u8 = 20;

#[derive(Debug, Deserialize)]
struct CompletionFields {
    prompt: Option<Texts>,
    suffix: Option<Text>,
    echo: Option<Value>,
    logprobs: Option<Whole>,
    /// llama.cpp's name for it.
    n_probs: Option<Whole>,
}

/// Decodes a text-completions request.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_completion(body: &[u8]) -> Result<ChatRequest, Failure> {
    let body = object(body)?;
    let mut fields: CompletionFields = read(&body)?;
    let not_supported =
        |field, what| Err(Failure::of_field(FailureKind::NotSupported, field, what));
    // Some clients always send a list.
    let prompt = match fields.prompt.take() {
        None => return Err(Failure::invalid_field("prompt", "must be a string")),
        Some(Texts::Tokens) => {
            return not_supported("prompt", "must be text, token numbers are not supported");
        }
        Some(Texts::One(text)) => text,
        Some(Texts::Several(texts)) => match <[String; 1]>::try_from(texts) {
            Ok([text]) => text,
            Err(_) => {
                return not_supported(
                    "prompt",
                    "with several texts is not supported: send a request for each",
                );
            }
        },
    };
    if !matches!(fields.echo, None | Some(Value::Bool(false))) {
        return not_supported("echo", "is not supported");
    }
    let prompt = match fields.suffix.take() {
        Some(Text(suffix)) if !suffix.is_empty() => Prompt::Infill(Box::new(Infill {
            prefix: prompt,
            suffix,
            ..Infill::default()
        })),
        _ => Prompt::Text(prompt),
    };
    let mut request = common(&body, prompt)?;
    request.submission.request.logprobs = fields.logprobs()?;
    Ok(request)
}

impl CompletionFields {
    /// How many likely tokens to report for each chosen one; `None`: report nothing.
    fn logprobs(self) -> Result<Option<u8>, Failure> {
        let bounded =
            |name, number: Option<Whole>, max| number.map(|n| at_most(name, n, max)).transpose();
        // llama.cpp's name for them; 0 means none there.
        let probs = bounded("n_probs", self.n_probs, PROBS_MAX)?.filter(|n| *n > 0);
        Ok(bounded("logprobs", self.logprobs, LOGPROBS_MAX)?.or(probs))
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: Option<&'a str>,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageBody>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    text: &'a str,
    finish_reason: Option<&'static str>,
    logprobs: Option<Columns>,
}

/// Probabilities in the older form: a list for each property.
#[derive(Serialize)]
struct Columns {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<Map<String, Value>>,
    text_offset: Vec<usize>,
}

/// The `text_completion` object, with one choice for each answer.
pub fn completion_response(answers: &[Answer]) -> Value {
    let choices = answers.iter().enumerate().map(|(index, answer)| {
        let wants_logprobs = answer.wants_logprobs || !answer.logprobs.is_empty();
        Choice {
            index,
            text: &answer.content,
            finish_reason: Some(answer.reason.as_str()),
            logprobs: wants_logprobs.then(|| columns(&answer.logprobs, 0)),
        }
    });
    let choices: Vec<Choice<'_>> = choices.collect();
    let first = answers.first();
    let usage = usage(&total(answers.iter().map(|answer| answer.usage)));
    completion(
        first.map(|answer| answer.id),
        first.map(|answer| answer.model.as_str()),
        unix_seconds(),
        &choices,
        Some(usage),
    )
}

fn completion(
    id: Option<RequestId>,
    model: Option<&str>,
    created: u64,
    choices: &[Choice<'_>],
    usage: Option<UsageBody>,
) -> Value {
    value(&Completion {
        id: format!("cmpl-{}", id.unwrap_or_default()),
        object: "text_completion",
        created,
        model,
        choices,
        usage,
    })
}

/// `offset` is the position of the first token in the text, in characters.
fn columns(tokens: &[TokenLogprob], mut offset: usize) -> Columns {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let offsets = tokens.iter().map(|token| {
        let here = offset;
        offset += text(&token.bytes).chars().count();
        here
    });
    Columns {
        text_offset: offsets.collect(),
        tokens: tokens.iter().map(|token| text(&token.bytes)).collect(),
        token_logprobs: tokens.iter().map(|token| token.logprob).collect(),
        top_logprobs: tokens.iter().map(alternatives).collect(),
    }
}

/// The likeliest tokens by their text. If a text is used already, or is not UTF-8, the
/// token is named by its bytes, as OpenAI does, and if that is used too, by its place in
/// the list.
fn alternatives(token: &TokenLogprob) -> Map<String, Value> {
    let mut named = Map::new();
    for (place, (bytes, logprob)) in token.top.iter().enumerate() {
        let mut by_bytes = "bytes:".to_owned();
        for byte in bytes {
            _ = write!(by_bytes, "\\x{byte:02x}");
        }
        let by_place = format!("{by_bytes}#{place}");
        let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
        let names = text.into_iter().chain([by_bytes, by_place]);
        let free = names.into_iter().find(|name| !named.contains_key(name));
        if let Some(name) = free {
            named.insert(name, (*logprob).into());
        }
    }
    named
}

/// Encodes the parts of answers as `text_completion` objects.
#[derive(Debug)]
pub struct CompletionStream {
    id: Option<RequestId>,
    model: String,
    created: u64,
    include_usage: bool,
    /// Characters so far and, once it is complete, the usage of each answer.
    answers: Vec<(usize, Option<Usage>)>,
}

impl CompletionStream {
    /// A stream for the answers to these requests.
    pub fn new(ids: &[RequestId], model: &str, include_usage: bool) -> Self {
        Self {
            id: ids.first().copied(),
            model: model.to_owned(),
            created: unix_seconds(),
            include_usage,
            answers: vec![(0, None); ids.len()],
        }
    }

    fn chunk(&self, choices: &[Choice<'_>], usage: Option<UsageBody>) -> Value {
        completion(self.id, Some(&self.model), self.created, choices, usage)
    }
}

impl Chunks for CompletionStream {
    fn token(
        &mut self,
        index: usize,
        parts: Vec<AnswerPart>,
        logprobs: Vec<TokenLogprob>,
    ) -> Vec<Value> {
        let Some((length, _)) = self.answers.get_mut(index) else {
            return Vec::new();
        };
        let text: String = parts
            .into_iter()
            .filter_map(|part| match part {
                AnswerPart::Content(text) => Some(text),
                AnswerPart::Reasoning(_) | AnswerPart::ToolCall(_) => None,
            })
            .collect();
        let offset = *length;
        *length += text.chars().count();
        let choice = Choice {
            index,
            text: &text,
            finish_reason: None,
            logprobs: (!logprobs.is_empty()).then(|| columns(&logprobs, offset)),
        };
        vec![self.chunk(&[choice], None)]
    }

    fn finish(&mut self, index: usize, reason: FinishReason, figures: &Usage) -> Vec<Value> {
        let Some((_, cost)) = self.answers.get_mut(index) else {
            return Vec::new();
        };
        *cost = Some(*figures);
        let last = Choice {
            index,
            text: "",
            finish_reason: Some(reason.as_str()),
            logprobs: None,
        };
        let mut chunks = vec![self.chunk(&[last], None)];
        if self.include_usage && self.is_over() {
            let costs = self.answers.iter().filter_map(|(_, cost)| *cost);
            chunks.push(self.chunk(&[], Some(usage(&total(costs)))));
        }
        chunks
    }

    fn is_over(&self) -> bool {
        self.answers.iter().all(|(_, cost)| cost.is_some())
    }
}

#[cfg(test)]
mod tests;
