//! Times of an answer, in the form of llama-server.

use hearth_proto::{Failure, Usage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chunks::Progress;
use crate::read::read;
use crate::scalars::Flag;

/// Token counts and times, in llama-server's order.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Timings {
    cache_n: u32,
    prompt_n: u32,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: u32,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
}

impl Timings {
    /// Those of a complete answer.
    pub(crate) fn new(usage: &Usage) -> Self {
        let per = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let prompt_n = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        // The first token of an answer comes with the end of its prompt.
        let predicted = usage.completion_tokens.saturating_sub(1);
        let (prompt, predicted) = (f64::from(prompt_n), f64::from(predicted));
        Self {
            cache_n: usage.cached_tokens,
            prompt_n,
            prompt_ms: usage.prefill_ms,
            prompt_per_token_ms: per(usage.prefill_ms, prompt),
            prompt_per_second: per(prompt * 1000.0, usage.prefill_ms),
            predicted_n: usage.completion_tokens,
            predicted_ms: usage.decode_ms,
            predicted_per_token_ms: per(usage.decode_ms, predicted),
            predicted_per_second: per(predicted * 1000.0, usage.decode_ms),
        }
    }

    /// Those of an answer so far.
    pub(crate) fn so_far(progress: &Progress) -> Self {
        Self::new(&Usage {
            prompt_tokens: progress.done_tokens,
            cached_tokens: progress.cached_tokens,
            completion_tokens: progress.generated,
            prefill_ms: progress.prompt_ms,
            decode_ms: progress.answer_ms,
            ..Usage::default()
        })
    }
}

/// How much of a prompt is computed.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct PromptProgress {
    total: u32,
    cache: u32,
    processed: u32,
    time_ms: f64,
}

impl From<&Progress> for PromptProgress {
    fn from(progress: &Progress) -> Self {
        Self {
            total: progress.prompt_tokens,
            cache: progress.cached_tokens,
            processed: progress.done_tokens,
            time_ms: progress.prompt_ms,
        }
    }
}

/// What llama-server reports besides an answer.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_progress: Option<PromptProgress>,
}

impl Report {
    /// With a part of an answer.
    pub(crate) fn of_answer(wanted: Reports, progress: &Progress) -> Self {
        let wants = wanted.timings_per_token;
        Self {
            timings: wants.then(|| Timings::so_far(progress)),
            prompt_progress: None,
        }
    }

    /// With a part of a prompt.
    pub(crate) fn of_prompt(wanted: Reports, progress: &Progress) -> Self {
        let wants = wanted.return_progress;
        Self {
            prompt_progress: wants.then(|| progress.into()),
            ..Self::of_answer(wanted, progress)
        }
    }

    /// At the end of all answers.
    pub(crate) fn of_all(usage: &Usage) -> Self {
        Self {
            timings: Some(Timings::new(usage)),
            prompt_progress: None,
        }
    }
}

/// What a request wants to be told beside its answer, in llama-server's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// Token counts and times with every part of a streamed answer.
    pub timings_per_token: bool,
    /// How much of the prompt is computed, before the first part of a streamed answer.
    pub return_progress: bool,
}

#[derive(Debug, Deserialize)]
struct ReportFields {
    timings_per_token: Option<Flag>,
    return_progress: Option<Flag>,
}

/// Reads what a request wants to be told.
///
/// # Errors
/// `InvalidArgs` naming the field.
pub(crate) fn reports(body: &Map<String, Value>) -> Result<Reports, Failure> {
    let fields: ReportFields = read(body)?;
    Ok(Reports {
        timings_per_token: fields.timings_per_token.is_some_and(Into::into),
        return_progress: fields.return_progress.is_some_and(Into::into),
    })
}
