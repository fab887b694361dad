//! Answers into `text_completion` objects.

use std::fmt::Write as _;

use hearth_proto::{Answer, AnswerPart, FinishReason, RequestId, TokenLogprob, Usage};
use serde::Serialize;
use serde_json::{Map, Value};

use super::CompletionForm;
use crate::Chunks;
use crate::encode::value;
use crate::openai::response::{FINGERPRINT, StreamUsage, UsageBody, total, unix_seconds, usage};

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: Option<&'a str>,
    system_fingerprint: &'static str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<StreamUsage>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    text: &'a str,
    finish_reason: Option<&'static str>,
    logprobs: Option<Columns>,
}

/// Probabilities in the older form: a list for each property. What nothing precedes has none.
#[derive(Default, Serialize)]
struct Columns {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
}

/// The `text_completion` object for answers to all prompts in their order, as many for each as
/// the form says.
pub fn completion_response(answers: &[Answer], form: &CompletionForm) -> Value {
    let groups: Vec<&[Answer]> = answers.chunks(form.best_of.max(1)).collect();
    let chosen = groups.iter().enumerate().flat_map(|(prompt, group)| {
        let best = best(group, form.n);
        best.into_iter().map(move |answer| (prompt, answer))
    });
    let texts: Vec<(usize, &Answer, String)> = chosen
        .map(|(prompt, answer)| (prompt, answer, form.text(prompt, answer)))
        .collect();
    let choices = texts
        .iter()
        .enumerate()
        .map(|(index, (_, answer, text))| Choice {
            index,
            text,
            finish_reason: Some(answer.reason.as_str()),
            logprobs: form.wants_logprobs.then(|| form.columns(answer)),
        });
    let choices: Vec<Choice<'_>> = choices.collect();
    let first = answers.first();
    // Answers to one prompt share it.
    let costs = groups
        .iter()
        .map(|group| total(group.iter().map(|answer| answer.usage)));
    completion(
        first.map(|answer| answer.id),
        first.map(|answer| answer.model.as_str()),
        unix_seconds(),
        &choices,
        Some(StreamUsage::Known(usage(&sum(costs)))),
    )
}

/// The usage of several prompts.
fn sum(costs: impl Iterator<Item = Usage>) -> Usage {
    costs.fold(Usage::default(), |all, cost| Usage {
        prompt_tokens: all.prompt_tokens + cost.prompt_tokens,
        cached_tokens: all.cached_tokens + cost.cached_tokens,
        ..total([all, cost].into_iter())
    })
}

/// The `n` answers with the likeliest tokens on average, the likeliest first; all of them in
/// their order if there are not more.
fn best(answers: &[Answer], n: usize) -> Vec<&Answer> {
    let mut order: Vec<&Answer> = answers.iter().collect();
    if order.len() <= n {
        return order;
    }
    let mean = |answer: &Answer| {
        let sum: f64 = answer.logprobs.iter().map(|t| f64::from(t.logprob)).sum();
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let count = answer.logprobs.len().max(1) as f64;
        sum / count
    };
    order.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    order.truncate(n);
    order
}

impl CompletionForm {
    fn text(&self, prompt: usize, answer: &Answer) -> String {
        let mut text = String::new();
        if let Some(echoed) = self.echoed.get(prompt) {
            text.push_str(echoed);
            if echoed.is_empty() {
                for token in &answer.prompt_logprobs {
                    text.push_str(&String::from_utf8_lossy(&token.bytes));
                }
            }
        }
        if !self.is_without_answer {
            text.push_str(&answer.content);
        }
        text
    }

    fn columns(&self, answer: &Answer) -> Columns {
        let mut columns = Columns::default();
        let mut offset = 0;
        if let Some((first, rest)) = answer.prompt_logprobs.split_first() {
            // Without text it begins the prompt, but is not in it.
            if !first.bytes.is_empty() {
                offset = columns.push(first, offset);
                columns.token_logprobs = vec![None];
                columns.top_logprobs = vec![None];
            }
            offset = rest
                .iter()
                .fold(offset, |at, token| columns.push(token, at));
        }
        if !self.is_without_answer {
            answer
                .logprobs
                .iter()
                .fold(offset, |at, token| columns.push(token, at));
        }
        columns
    }
}

impl Columns {
    /// Those of tokens from this position in the text on, in characters.
    fn of(tokens: &[TokenLogprob], offset: usize) -> Self {
        let mut columns = Self::default();
        tokens
            .iter()
            .fold(offset, |at, token| columns.push(token, at));
        columns
    }

    /// Adds a token at a position in the text; returns that after it.
    fn push(&mut self, token: &TokenLogprob, offset: usize) -> usize {
        let text = String::from_utf8_lossy(&token.bytes).into_owned();
        let after = offset + text.chars().count();
        self.text_offset.push(offset);
        self.tokens.push(text);
        self.token_logprobs.push(Some(token.logprob));
        self.top_logprobs.push(Some(alternatives(token)));
        after
    }
}

fn completion(
    id: Option<RequestId>,
    model: Option<&str>,
    created: u64,
    choices: &[Choice<'_>],
    usage: Option<StreamUsage>,
) -> Value {
    value(&Completion {
        id: format!("cmpl-{:x}", id.unwrap_or_default()),
        object: "text_completion",
        created,
        model,
        system_fingerprint: FINGERPRINT,
        choices,
        usage,
    })
}

/// The likeliest tokens by their text. If a text is used already, or is not UTF-8, the
/// token is named by its bytes, as OpenAI does, and if that is used too, by its place in
/// the list.
pub(super) fn alternatives(token: &TokenLogprob) -> Map<String, Value> {
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
    form: CompletionForm,
    /// Characters so far and, once it is complete, the usage of each answer.
    answers: Vec<(usize, Option<Usage>)>,
}

impl CompletionStream {
    /// A stream for the answers to these requests: those to one prompt follow each other.
    pub fn new(ids: &[RequestId], model: &str, form: CompletionForm) -> Self {
        Self {
            id: ids.first().copied(),
            model: model.to_owned(),
            created: unix_seconds(),
            form,
            answers: vec![(0, None); ids.len()],
        }
    }

    fn chunk(&self, choices: &[Choice<'_>], usage: Option<UsageBody>) -> Value {
        let usage = self.form.include_usage.then(|| usage.into());
        completion(self.id, Some(&self.model), self.created, choices, usage)
    }

    fn text_chunk(&mut self, index: usize, text: &str, logprobs: &[TokenLogprob]) -> Option<Value> {
        let (length, _) = self.answers.get_mut(index)?;
        let offset = *length;
        *length += text.chars().count();
        let choice = Choice {
            index,
            text,
            finish_reason: None,
            logprobs: (!logprobs.is_empty()).then(|| Columns::of(logprobs, offset)),
        };
        Some(self.chunk(&[choice], None))
    }
}

impl Chunks for CompletionStream {
    /// The echoed prompts.
    fn open(&mut self) -> Vec<Value> {
        let per_prompt = self.form.n.max(1);
        let echoed = self.form.echoed.clone();
        let each = (0..self.answers.len()).filter_map(|index| {
            let text = echoed.get(index / per_prompt)?;
            self.text_chunk(index, text, &[])
        });
        each.collect()
    }

    fn token(
        &mut self,
        index: usize,
        parts: Vec<AnswerPart>,
        logprobs: Vec<TokenLogprob>,
    ) -> Vec<Value> {
        if self.form.is_without_answer {
            return Vec::new();
        }
        let text: String = parts.iter().filter_map(AnswerPart::content).collect();
        self.text_chunk(index, &text, &logprobs)
            .into_iter()
            .collect()
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
        if self.form.include_usage && self.is_over() {
            let costs: Vec<Usage> = self.answers.iter().filter_map(|(_, cost)| *cost).collect();
            let prompts = costs.chunks(self.form.n.max(1));
            let costs = sum(prompts.map(|group| total(group.iter().copied())));
            chunks.push(self.chunk(&[], Some(usage(&costs))));
        }
        chunks
    }

    fn is_over(&self) -> bool {
        self.answers.iter().all(|(_, cost)| cost.is_some())
    }
}
