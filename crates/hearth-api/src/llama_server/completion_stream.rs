//! Streamed answers in llama-server's own form.

use hearth_proto::{AnswerPart, FinishReason, TokenLogprob, Usage};
use serde::Serialize;
use serde_json::Value;

use super::completion::CompletionForm;
use super::completion_response::{
    CompletionContext, End, NO_SLOT, Probabilities, chosen, completion, probabilities,
};
use crate::encode::value;
use crate::timings::Report;
use crate::{Chunks, Progress};

/// A part of a streamed answer, or of its prompt.
#[derive(Serialize)]
struct Part<'a> {
    index: usize,
    content: &'a str,
    tokens: &'a [i32],
    stop: bool,
    id_slot: i32,
    tokens_predicted: u32,
    tokens_evaluated: u32,
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    completion_probabilities: Vec<Probabilities>,
}

/// Encodes the parts of answers.
#[derive(Debug)]
pub struct CompletionStream<F> {
    model: String,
    /// The settings of an answer by its place, asked for at its end: only then the model is
    /// certainly known.
    settings: F,
    form: CompletionForm,
    answers: Vec<Streamed>,
}

/// State of one answer.
#[derive(Debug)]
struct Streamed {
    context: CompletionContext,
    progress: Progress,
    has_new_line: bool,
    /// Tokens whose text is still held back, and their probabilities.
    tokens: Vec<i32>,
    logprobs: Vec<TokenLogprob>,
    stop_string: Option<String>,
    is_over: bool,
}

impl<F: Fn(usize) -> Value> CompletionStream<F> {
    /// A stream for answers of this model.
    pub fn new(
        model: &str,
        contexts: Vec<CompletionContext>,
        settings: F,
        form: CompletionForm,
    ) -> Self {
        let streamed = |context| Streamed {
            context,
            progress: Progress::default(),
            has_new_line: false,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            stop_string: None,
            is_over: false,
        };
        Self {
            model: model.to_owned(),
            settings,
            form,
            answers: contexts.into_iter().map(streamed).collect(),
        }
    }
}

impl Streamed {
    fn part(&self, index: usize, content: &str, report: Report) -> Value {
        value(&Part {
            index,
            content,
            tokens: &self.tokens,
            stop: false,
            id_slot: NO_SLOT,
            tokens_predicted: self.progress.generated,
            tokens_evaluated: self.progress.prompt_tokens,
            report,
            completion_probabilities: probabilities(&self.logprobs),
        })
    }
}

impl<F: Fn(usize) -> Value> Chunks for CompletionStream<F> {
    fn prompt(&mut self, index: usize, progress: &Progress) -> Vec<Value> {
        let reports = self.form.reports;
        let Some(answer) = self.answers.get_mut(index) else {
            return Vec::new();
        };
        answer.progress = *progress;
        if !reports.return_progress {
            return Vec::new();
        }
        vec![answer.part(index, "", Report::of_prompt(reports, progress))]
    }

    fn advance(&mut self, index: usize, progress: &Progress, tokens: &[i32]) {
        if let Some(answer) = self.answers.get_mut(index) {
            answer.progress = *progress;
            answer.tokens.extend(tokens);
        }
    }

    fn stopped_by(&mut self, index: usize, stop: &str) {
        if let Some(answer) = self.answers.get_mut(index) {
            answer.stop_string = Some(stop.to_owned());
        }
    }

    /// Nothing where a token only completes part of a character or may begin a stop string.
    fn token(
        &mut self,
        index: usize,
        parts: Vec<AnswerPart>,
        logprobs: Vec<TokenLogprob>,
    ) -> Vec<Value> {
        let Some(answer) = self.answers.get_mut(index) else {
            return Vec::new();
        };
        answer.logprobs.extend(logprobs);
        let content: String = parts.iter().filter_map(AnswerPart::content).collect();
        if content.is_empty() || self.form.is_empty {
            return Vec::new();
        }
        answer.has_new_line |= content.contains('\n');
        let report = Report::of_answer(self.form.reports, &answer.progress);
        let part = answer.part(index, &content, report);
        answer.tokens.clear();
        answer.logprobs.clear();
        vec![part]
    }

    fn finish(&mut self, index: usize, reason: FinishReason, usage: &Usage) -> Vec<Value> {
        let Some(answer) = self.answers.get_mut(index) else {
            return Vec::new();
        };
        answer.is_over = true;
        let end = End {
            reason,
            stop_string: answer.stop_string.as_deref(),
            usage,
        };
        let mut body = completion(index, ("", ""), &self.model, &answer.context, end);
        body.generation_settings = (self.settings)(index);
        body.has_new_line = answer.has_new_line;
        if self.form.is_empty {
            body.tokens_predicted = 0;
        }
        vec![chosen(value(&body), &self.form.response_fields)]
    }

    fn is_over(&self) -> bool {
        self.answers.iter().all(|answer| answer.is_over)
    }
}

#[cfg(test)]
mod tests;
