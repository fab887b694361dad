//! Text completions: a prompt without a template.

mod answers;
#[cfg(test)]
mod tests;

use hearth_proto::{Failure, Infill, Prompt, Submission};
use serde::Deserialize;

use super::request::{ChatRequest, at_most, common};
use crate::read::{object, read};
use crate::scalars::{Flag, Text, Whole};
use crate::shape::Shape as _;
use crate::texts::Texts;

pub use answers::{CompletionStream, completion_response};

/// The most alternatives reported for each token (OpenAI's own bound).
const LOGPROBS_MAX: u8 = 5;
/// The same under llama.cpp's name, as many as the engine reports.
const PROBS_MAX: u8 = 20;

/// The most answers that one request computes, for all of its prompts together.
const ANSWERS_MAX: usize = 128;

/// A decoded request: what to do, and the form of the response.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// What to do for each prompt; there is at least one.
    pub submissions: Vec<Submission>,
    /// Whether to stream.
    pub stream: bool,
    /// The form of the response.
    pub form: CompletionForm,
}

/// The form of a response with completions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompletionForm {
    /// Number of answers for each prompt.
    pub n: usize,
    /// How many are computed for each prompt, of which the likeliest `n` are sent.
    pub best_of: usize,
    /// The texts that precede the answers, by prompt; empty without `echo`.
    pub(super) echoed: Vec<String>,
    /// Whether the answers themselves are left out (`max_tokens` 0).
    pub(super) is_without_answer: bool,
    /// Whether probabilities were requested.
    pub(super) wants_logprobs: bool,
    /// Whether a stream ends with a chunk of usage figures.
    pub(super) include_usage: bool,
}

#[derive(Debug, Deserialize)]
struct CompletionFields {
    prompt: Option<Texts>,
    suffix: Option<Text>,
    echo: Option<Flag>,
    best_of: Option<Whole>,
    logprobs: Option<Whole>,
    /// llama.cpp's name for it.
    n_probs: Option<Whole>,
}

/// Decodes a text-completions request.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_completion(body: &[u8]) -> Result<CompletionRequest, Failure> {
    let mut body = object(body)?;
    let mut fields: CompletionFields = read(&body)?;
    let echoes = fields.echo.is_some_and(Into::into);
    let is_without_answer = echoes && body.get("max_tokens").is_some_and(|n| *n == 0);
    if is_without_answer {
        body.insert("max_tokens".into(), 1.into());
    }
    let (prompts, echoed) = fields.prompts(echoes)?;
    let best_of = fields.best_of.map(|n| n.0 as usize);
    let logprobs = fields.logprobs()?;
    if prompts.is_empty() {
        return Err(Failure::invalid_field(
            "prompt",
            "must hold at least one prompt",
        ));
    }
    let ChatRequest {
        mut submission,
        n,
        stream,
        include_usage,
        ..
    } = common(&body, Prompt::default())?;
    let n = n as usize;
    let form = CompletionForm {
        n,
        best_of: best_of.unwrap_or(n),
        echoed,
        is_without_answer,
        wants_logprobs: logprobs.is_some(),
        include_usage,
    };
    form.check(prompts.len(), stream, echoes)?;
    // Several are compared by their probabilities.
    let compared = (form.best_of > n).then_some(0);
    submission.request.logprobs = logprobs.or(compared);
    submission.request.prompt_logprobs = echoes && logprobs.is_some();
    let of = |prompt| {
        let mut submission = submission.clone();
        submission.request.prompt = prompt;
        submission
    };
    Ok(CompletionRequest {
        submissions: prompts.into_iter().map(of).collect(),
        stream,
        form,
    })
}

impl CompletionForm {
    /// Refuses what excludes each other, and too many prompts.
    fn check(&self, prompts: usize, is_streamed: bool, echoes: bool) -> Result<(), Failure> {
        if self.best_of < self.n {
            return Err(Failure::invalid_field("best_of", "must be at least `n`"));
        }
        let streamed = |what, field| {
            Failure::invalid_field(
                field,
                format_args!("{what} cannot be streamed: set `stream` to false"),
            )
        };
        if is_streamed && self.best_of > self.n {
            return Err(streamed("above `n`", "best_of"));
        }
        if is_streamed && echoes && self.wants_logprobs {
            return Err(streamed("with `logprobs`", "echo"));
        }
        if self.best_of.saturating_mul(prompts) > ANSWERS_MAX {
            return Err(Failure::invalid_field(
                "prompt",
                format_args!("asks for more than {ANSWERS_MAX} answers at once"),
            ));
        }
        Ok(())
    }
}

impl CompletionFields {
    /// The prompts, and the texts to echo.
    fn prompts(&mut self, echoes: bool) -> Result<(Vec<Prompt>, Vec<String>), Failure> {
        let missing = || Failure::invalid_field("prompt", Texts::WHAT);
        let texts = match self.prompt.take().ok_or_else(missing)? {
            Texts::One(text) => vec![text],
            Texts::Several(texts) => texts,
            Texts::Tokens(lists) => {
                if self.suffix.is_some() {
                    return Err(Failure::invalid_field("suffix", "needs a text as `prompt`"));
                }
                // The text of tokens is known to the engine alone: it comes with its
                // probabilities.
                let echoed = if echoes {
                    vec![String::new(); lists.len()]
                } else {
                    Vec::new()
                };
                return Ok((lists.into_iter().map(Prompt::tokens).collect(), echoed));
            }
        };
        let echoed = if echoes { texts.clone() } else { Vec::new() };
        let suffix = self
            .suffix
            .take()
            .map(|text| text.0)
            .filter(|text| !text.is_empty());
        let prompt = |prefix| match &suffix {
            Some(suffix) => Prompt::Infill(Box::new(Infill {
                prefix,
                suffix: suffix.clone(),
                ..Infill::default()
            })),
            None => Prompt::Text(prefix),
        };
        Ok((texts.into_iter().map(prompt).collect(), echoed))
    }

    /// How many likely tokens to report for each chosen one; `None`: report nothing.
    fn logprobs(self) -> Result<Option<u8>, Failure> {
        let bounded =
            |name, number: Option<Whole>, max| number.map(|n| at_most(name, n, max)).transpose();
        // llama.cpp's name for them; 0 means none there.
        let probs = bounded("n_probs", self.n_probs, PROBS_MAX)?.filter(|n| *n > 0);
        Ok(bounded("logprobs", self.logprobs, LOGPROBS_MAX)?.or(probs))
    }
}
