//! The study as a JSON document.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::results::{Failure, METRICS, Measured, Run};
use super::settings::{AT_LENGTH, Form, QUESTIONS, Reset, Settings};
use super::wire::Api;

/// All settings and results.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    version: &'static str,
    runs: u32,
    reset: Reset,
    answer_tokens: Option<u32>,
    questions: [&'static str; QUESTIONS.len()],
    added_to_each_question: Option<&'static str>,
    servers: Vec<Server<'a>>,
}

#[derive(Debug, Serialize)]
struct Server<'a> {
    name: &'a str,
    address: String,
    api: Api,
    model: &'a str,
    pid: Option<u32>,
    notes: Vec<String>,
    failures: &'a [Failure],
    forms: Forms<'a>,
}

#[derive(Debug, Serialize)]
struct Forms<'a> {
    one_prompt: FormResults<'a>,
    three_prompts: FormResults<'a>,
}

#[derive(Debug, Serialize)]
struct FormResults<'a> {
    /// By [`Metric::key`](super::results::Metric::key); metrics without a value are absent.
    summary: Map<String, Value>,
    /// The answers of the first run.
    answer: Option<&'a str>,
    runs: &'a [Run],
}

impl<'a> Report<'a> {
    pub(super) fn new(settings: &Settings, servers: &'a [Measured]) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            runs: settings.runs,
            reset: settings.reset,
            answer_tokens: settings.tokens,
            questions: QUESTIONS,
            added_to_each_question: settings.tokens.map(|_| AT_LENGTH),
            servers: servers.iter().map(|m| Server::new(settings, m)).collect(),
        }
    }
}

impl<'a> Server<'a> {
    fn new(settings: &Settings, measured: &'a Measured) -> Self {
        Self {
            name: &measured.server.name,
            address: measured.server.address.to_string(),
            api: measured.server.api,
            model: &measured.model,
            pid: measured.pid,
            notes: measured.all_notes(settings),
            failures: &measured.failures,
            forms: Forms {
                one_prompt: FormResults::new(measured, Form::One),
                three_prompts: FormResults::new(measured, Form::Three),
            },
        }
    }
}

impl<'a> FormResults<'a> {
    fn new(measured: &'a Measured, form: Form) -> Self {
        let runs = measured.runs(form);
        let summaries = METRICS.iter().filter_map(|metric| {
            let summary = measured.summary(form, metric)?;
            Some((metric.key.to_owned(), json!(summary)))
        });
        Self {
            summary: summaries.collect(),
            answer: runs.first().map(|run| run.text.as_str()),
            runs,
        }
    }
}
