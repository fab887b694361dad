//! The results of the runs, by server.

use hearth_proto::units::Bytes;
use serde::Serialize;

use super::proc::Kind;
use super::sampler::ResourceUse;
use super::server::{Answer, Server};
use super::settings::{FORMS, Form, Settings};
use super::stats::Summary;

/// One run: one question, or three in sequence.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Run {
    /// Time to the complete answer; for three questions, the sum.
    pub response_s: f64,
    /// Time to the first text; for three questions, the mean.
    pub first_token_s: Option<f64>,
    /// Tokens per second between the first text and the last.
    pub tokens_per_s: Option<f64>,
    /// Tokens per second over the whole response.
    pub tokens_per_response_s: f64,
    /// Tokens of the answers.
    pub tokens: u64,
    /// Whether the server counted them; otherwise the chunks of its stream were counted.
    pub counted_by_server: bool,
    /// Tokens of the prompts, if the server reports them.
    pub prompt_tokens: Option<u64>,
    /// How many of these came from the server's prompt cache, if it reports that.
    pub cached_tokens: Option<u64>,
    /// CPU time of the process tree.
    pub cpu_s: Option<f64>,
    /// CPU time as a share of the response time; 100 is one core.
    pub cpu_percent: Option<f64>,
    /// Mean over the run.
    pub memory_average_bytes: Option<u64>,
    /// Peak.
    pub memory_peak_bytes: Option<u64>,
    /// How memory was counted.
    pub memory_kind: Option<Kind>,
    /// The highest temperature of the board.
    pub celsius: Option<f64>,
    /// The texts of the answers.
    #[serde(skip)]
    pub text: String,
}

impl Run {
    /// Combines the answers of a run.
    #[expect(clippy::cast_precision_loss, reason = "tokens and questions are few")]
    pub fn new(answers: &[Answer], used: &ResourceUse) -> Self {
        let sum = |of: fn(&Answer) -> f64| answers.iter().map(of).sum::<f64>();
        let counts = |of: fn(&Answer) -> Option<u64>| answers.iter().map(of).sum::<Option<u64>>();
        let response_s = sum(|a| a.response.as_secs_f64());
        let writing = sum(|a| a.writing.as_secs_f64());
        let firsts = answers.iter().filter_map(|a| Some(a.first?.as_secs_f64()));
        let tokens: u64 = answers.iter().map(Answer::tokens).sum();
        // The time of the first token is that of the prompt.
        let later: u64 = answers.iter().map(|a| a.tokens().saturating_sub(1)).sum();
        let cpu_s = used.cpu.map(|cpu| cpu.as_secs_f64());
        Self {
            response_s,
            first_token_s: Summary::of(firsts).map(|s| s.mean),
            tokens_per_s: (later > 0 && writing > 0.0).then(|| later as f64 / writing),
            tokens_per_response_s: tokens as f64 / response_s.max(f64::MIN_POSITIVE),
            tokens,
            counted_by_server: answers.iter().all(|a| a.usage.answer.is_some()),
            prompt_tokens: counts(|a| a.usage.prompt),
            cached_tokens: counts(|a| a.usage.cached),
            cpu_s,
            cpu_percent: cpu_s.map(|cpu| cpu / response_s.max(f64::MIN_POSITIVE) * 100.0),
            memory_average_bytes: used.memory.map(|(mean, ..)| mean.0),
            memory_peak_bytes: used.memory.map(|(_, peak, _)| peak.0),
            memory_kind: used.memory.map(|(.., kind)| kind),
            celsius: used.celsius,
            text: answers
                .iter()
                .map(|a| a.text.trim())
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }
}

/// A figure of a run.
pub struct Metric {
    /// Key in JSON.
    pub key: &'static str,
    /// Title of the chart, with the unit.
    pub title: &'static str,
    /// The value, in that unit.
    pub of: fn(&Run) -> Option<f64>,
}

/// The figures that are summarized over the runs.
pub const METRICS: [Metric; 9] = [
    Metric {
        key: "response_s",
        title: "response time, s",
        of: |run| Some(run.response_s),
    },
    Metric {
        key: "first_token_s",
        title: "time to first token, s",
        of: |run| run.first_token_s,
    },
    Metric {
        key: "tokens_per_s",
        title: "tokens/s, first to last",
        of: |run| run.tokens_per_s,
    },
    Metric {
        key: "tokens_per_response_s",
        title: "tokens/s, whole response",
        of: |run| Some(run.tokens_per_response_s),
    },
    Metric {
        key: "tokens",
        title: "tokens of the answers",
        of: |run| count(Some(run.tokens)),
    },
    Metric {
        key: "cpu_percent",
        title: "CPU, % of a core",
        of: |run| run.cpu_percent,
    },
    Metric {
        key: "memory_average_mib",
        title: "memory, mean, MiB",
        of: |run| mib(run.memory_average_bytes),
    },
    Metric {
        key: "memory_peak_mib",
        title: "memory, peak, MiB",
        of: |run| mib(run.memory_peak_bytes),
    },
    Metric {
        key: "celsius",
        title: "temperature, °C",
        of: |run| run.celsius,
    },
];

fn mib(bytes: Option<u64>) -> Option<f64> {
    Some(count(bytes)? / count(Some(Bytes::mib(1).0))?)
}

#[expect(clippy::cast_precision_loss, reason = "only to be summed up")]
fn count(number: Option<u64>) -> Option<f64> {
    number.map(|number| number as f64)
}

/// A failed run.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// `warm-up`, or the form.
    pub at: &'static str,
    /// Number of the run, from 1; 0 is the warm-up.
    pub run: u32,
    /// The reason.
    pub message: String,
}

/// A server and its runs.
#[derive(Debug)]
pub struct Measured {
    pub server: Server,
    /// The model that was requested.
    pub model: String,
    /// The root of its process tree, if known.
    pub pid: Option<u32>,
    /// What affects the interpretation of the figures.
    notes: Vec<String>,
    /// The failed runs.
    pub failures: Vec<Failure>,
    /// Failures since the last success.
    pub failures_in_row: usize,
    /// Whether the server is excluded from further runs.
    pub excluded: bool,
    runs: [Vec<Run>; FORMS.len()],
}

impl Measured {
    pub fn new(server: Server) -> Self {
        Self {
            server,
            model: String::new(),
            pid: None,
            notes: Vec::new(),
            failures: Vec::new(),
            failures_in_row: 0,
            excluded: false,
            runs: Default::default(),
        }
    }

    /// The runs of a form.
    pub fn runs(&self, form: Form) -> &[Run] {
        &self.runs[form as usize]
    }

    /// Adds a run.
    pub fn add(&mut self, form: Form, run: Run) {
        self.failures_in_row = 0;
        if !run.counted_by_server {
            self.add_note(
                "it counts no tokens: the chunks of its stream are counted instead".to_owned(),
            );
        }
        if run.memory_kind == Some(Kind::Rss) {
            self.add_note(
                "memory is the resident set size, which counts shared pages for each process: run as \
                 the server's user or as root for the proportional set size"
                    .to_owned(),
            );
        }
        self.runs[form as usize].push(run);
    }

    /// Adds a failed run.
    pub fn add_failure(&mut self, at: &'static str, run: u32, message: String) {
        self.failures_in_row += 1;
        self.failures.push(Failure { at, run, message });
    }

    /// Adds a note unless it is there already.
    pub fn add_note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// The notes, and another one if the answers are shorter than requested.
    pub fn all_notes(&self, settings: &Settings) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.short_answers(settings));
        notes
    }

    fn short_answers(&self, settings: &Settings) -> Option<String> {
        let wanted = f64::from(settings.tokens?);
        let metric = METRICS.iter().find(|metric| metric.key == "tokens")?;
        let mean = self.summary(Form::One, metric)?.mean;
        (mean < wanted - 1.0).then(|| {
            format!(
                "its answers had {mean:.0} of {wanted:.0} tokens: it ends them by itself, compare \
                 tokens/s only"
            )
        })
    }

    /// One figure over all runs of a form.
    pub fn summary(&self, form: Form, metric: &Metric) -> Option<Summary> {
        Summary::of(self.runs(form).iter().filter_map(metric.of))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::wire::{Api, Usage};
    use super::*;

    fn answer(tokens: Option<u64>) -> Answer {
        Answer {
            response: Duration::from_secs(2),
            first: Some(Duration::from_millis(500)),
            writing: Duration::from_secs(1),
            pieces: 4,
            usage: Usage {
                answer: tokens,
                prompt: Some(20),
                cached: None,
            },
            text: " Rome. ".into(),
        }
    }

    #[test]
    fn three_answers_make_one_run() {
        let used = ResourceUse {
            cpu: Some(Duration::from_secs(3)),
            memory: Some((Bytes::mib(10), Bytes::mib(20), Kind::Pss)),
            celsius: Some(50.0),
        };
        let run = Run::new(
            &[answer(Some(11)), answer(Some(11)), answer(Some(11))],
            &used,
        );
        assert_eq!((run.response_s, run.first_token_s), (6.0, Some(0.5)));
        assert_eq!(
            (run.tokens_per_s, run.tokens_per_response_s),
            (Some(10.0), 5.5)
        );
        assert_eq!(
            (run.tokens, run.prompt_tokens, run.cached_tokens),
            (33, Some(60), None)
        );
        assert_eq!((run.cpu_percent, run.counted_by_server), (Some(50.0), true));
        assert_eq!(run.text, "Rome.\nRome.\nRome.");
        let values: Vec<_> = METRICS.iter().map(|metric| (metric.of)(&run)).collect();
        assert_eq!(values[6..8], [Some(10.0), Some(20.0)]);
        let unknown = Run::new(&[answer(None)], &ResourceUse::default());
        assert_eq!((unknown.tokens, unknown.counted_by_server), (4, false));
        assert_eq!(unknown.cpu_percent, None);
        let silent = Run::new(&[Answer::default()], &ResourceUse::default());
        assert_eq!((silent.tokens_per_s, silent.first_token_s), (None, None));
    }

    #[test]
    fn a_note_is_added_once() {
        let mut measured = Measured::new(Server::new(
            "a",
            "http://localhost:1".parse().unwrap(),
            Api::OpenAi,
        ));
        for _ in 0..2 {
            measured.add_failure("one prompt", 1, "no".into());
            let run = Run::new(&[answer(None)], &ResourceUse::default());
            measured.add(Form::One, run);
        }
        assert_eq!(measured.notes.len(), 1, "{:?}", measured.notes);
        assert_eq!((measured.failures.len(), measured.failures_in_row), (2, 0));
        let summary = measured.summary(Form::One, &METRICS[0]).unwrap();
        assert_eq!((summary.runs, summary.median), (2, 2.0));
        assert_eq!(measured.summary(Form::Three, &METRICS[0]), None);
    }
}
