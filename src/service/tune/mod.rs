//! Measures how fast a model is on this board by thread count, and uses the result.
//!
//! It measures what users get: whole requests of class `background`, one after another, on
//! a board that is cool and otherwise idle. A disturbed measurement is repeated.

mod store;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hearth_policy::tuning::nearest;

use super::Service;
use super::clock::unix_seconds;
use super::state::governor_settings;
use super::types::{Caller, Submission};
use crate::protocol::{
    Failure, FailureKind, GenerateRequest, Priority, Prompt, RequestId, Sampling, Usage,
};

pub use hearth_policy::tuning::{Speed, Tuning};

/// Measurements of each thread count; the median excludes one whose disturbance was not
/// noticed.
const RUNS: u32 = 3;
/// Tokens of each answer.
const TOKENS: u32 = 24;
/// Words of each prompt.
const WORDS: usize = 64;
/// How often to check whether the board is cool and idle.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Disturbed measurements after which measuring fails.
const DISTURBED_MAX: u32 = 60;

/// The measurements made on this board.
#[derive(Debug, Default)]
pub(super) struct Tunings(Mutex<Vec<Tuning>>);

impl Tunings {
    pub(super) fn read(path: &Path) -> Self {
        Self(Mutex::new(store::read(path)))
    }

    fn all(&self) -> Vec<Tuning> {
        let tunings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tunings.clone()
    }

    /// Stores the measurements of one more model, or deletes all.
    fn keep(&self, path: &Path, tuning: Option<Tuning>) -> Result<(), Failure> {
        let mut all = self.all();
        match tuning {
            Some(tuning) => {
                all.retain(|old| old.model != tuning.model || old.cores != tuning.cores);
                all.push(tuning);
            }
            None => all.clear(),
        }
        store::write(path, &all).map_err(|error| {
            let path = path.display();
            Failure::new(FailureKind::Io, format!("cannot write {path}: {error}"))
        })?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(())
    }
}

/// Progress of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuned {
    /// Requests measured so far.
    pub done: u32,
    /// Requests to be measured.
    pub total: u32,
    /// Its current step, or what it waits for.
    pub doing: String,
    /// Threads that compute for it; `None` while it waits.
    pub(super) threads: Option<u32>,
}

/// Restores the governor's limits on drop.
struct Over<'a>(&'a Service);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.lock().tuned = None;
        self.0.look_at_board();
    }
}

impl Service {
    /// Measures a model (empty: the loaded or default one) with 1, 2, … threads, stores the
    /// result and uses it. Waits for at most `wait` in all for a cool and idle board.
    ///
    /// # Errors
    /// `Busy` if a measurement is running already, or the board never becomes idle;
    /// `Overheated` if it never cools down; `Io` if the result cannot be stored; those of
    /// loading.
    pub async fn tune(
        &self,
        caller: &Caller,
        model: &str,
        wait: Duration,
    ) -> Result<Tuning, Failure> {
        let threads_max = {
            let mut inner = self.lock();
            if inner.tuned.is_some() {
                let message = "the board is being measured already: wait until that is over";
                return Err(Failure::new(FailureKind::Busy, message));
            }
            let threads_max = inner.threads_max();
            inner.tuned = Some(Tuned {
                total: RUNS * threads_max,
                ..Tuned::default()
            });
            threads_max
        };
        let _over = Over(self);
        let model = self.ready_model(caller, model).await?;
        let mut wait = wait;
        let mut usages: Vec<Vec<Usage>> = vec![Vec::new(); threads_max as usize];
        // The first request of all causes page faults.
        self.rest(&mut wait).await?;
        self.measure(caller, &model, threads_max).await?;
        let mut disturbed = 0;
        for _ in 0..RUNS {
            for (threads, measured) in (1..).zip(&mut usages) {
                let usage = loop {
                    self.rest(&mut wait).await?;
                    if let Some(usage) = self.measure(caller, &model, threads).await? {
                        break usage;
                    }
                    disturbed += 1;
                    if disturbed > DISTURBED_MAX {
                        let message =
                            "the board is never left alone: try again when it has less to do";
                        return Err(Failure::new(FailureKind::Busy, message));
                    }
                };
                measured.push(usage);
                if let Some(tuned) = &mut self.lock().tuned {
                    tuned.done += 1;
                }
            }
        }
        let tuning = self.tuning(&model, &usages);
        if !tuning.is_sound() {
            let message = "the model is too fast here to be measured";
            return Err(Failure::new(FailureKind::NotSupported, message));
        }
        let path = self.config().paths.tuning.clone();
        self.shared.tunings.keep(&path, Some(tuning.clone()))?;
        self.use_tuning();
        let best = tuning.best().map_or(threads_max, |(threads, _)| threads);
        log::info!(model = model.as_str(), threads = best; "measured: answers are fastest with {best} of {threads_max} threads");
        Ok(tuning)
    }

    /// The measurements made on this board.
    pub fn tunings(&self) -> Vec<Tuning> {
        self.shared.tunings.all()
    }

    /// Deletes all measurements.
    ///
    /// # Errors
    /// `Io` where the file cannot be written.
    pub fn forget_tunings(&self) -> Result<(), Failure> {
        let path = self.config().paths.tuning.clone();
        self.shared.tunings.keep(&path, None)?;
        self.use_tuning();
        Ok(())
    }

    /// Sets the governor's decode speeds to those of the loaded model, or of a similar one.
    pub(super) fn use_tuning(&self) {
        let all = self.tunings();
        let table = if all.is_empty() {
            None
        } else {
            let cores = self.cores();
            self.models().iter().find(|m| m.loaded).and_then(|model| {
                let (form, size) = (&model.quantization, model.parameters);
                let known = nearest(&all, &cores, &model.name, form, size)?;
                let most = known.best()?.0.max(known.best_prefill()?.0);
                Some((known.decode()?, Some(most)))
            })
        };
        let (table, most) = table.unwrap_or_default();
        self.lock().set_table(table, most);
        self.look_at_board();
    }

    /// Sets the governor's settings from the configuration, and keeps the measured speeds.
    pub(super) fn set_governor(&self, config: &crate::config::GovernorConfig) {
        let mut inner = self.lock();
        let (table, most) = inner.table();
        let settings = governor_settings(config, inner.threads_max());
        inner.set_governor(settings);
        inner.set_table(table, most);
    }

    /// Waits until the engine is idle and the board is cool.
    async fn rest(&self, wait: &mut Duration) -> Result<(), Failure> {
        loop {
            self.look_at_board();
            let why = self.lock().restless();
            let Some((kind, why)) = why else {
                return Ok(());
            };
            if wait.is_zero() {
                return Err(Failure::new(
                    kind,
                    format!("{why}, and did not change in time: try again later"),
                ));
            }
            if let Some(tuned) = &mut self.lock().tuned {
                tuned.doing = format!("waiting: {why}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
            *wait = wait.saturating_sub(LOOK_EVERY);
        }
    }

    /// Measures one request with this many threads; `None` if it was disturbed.
    async fn measure(
        &self,
        caller: &Caller,
        model: &str,
        threads: u32,
    ) -> Result<Option<Usage>, Failure> {
        let last = {
            let mut inner = self.lock();
            if let Some(tuned) = &mut inner.tuned {
                tuned.threads = Some(threads);
                tuned.doing = match threads {
                    1 => "1 thread".to_owned(),
                    n => format!("{n} threads"),
                };
            }
            inner.last_id()
        };
        self.look_at_board();
        let stream = self.submit(caller, submission(model, last));
        let answered = match stream {
            Ok(stream) => stream.collect().await.map(|answer| answer.usage),
            Err(failure) => Err(failure),
        };
        let mut inner = self.lock();
        if let Some(tuned) = &mut inner.tuned {
            tuned.threads = None;
        }
        let alone = inner.last_id().0 == last.0 + 1;
        let calm = inner.restless().is_none();
        drop(inner);
        self.look_at_board();
        Ok(Some(answered?).filter(|_| alone && calm))
    }

    fn tuning(&self, model: &str, usages: &[Vec<Usage>]) -> Tuning {
        let speed = |usages: &Vec<Usage>| Speed {
            decode: median(usages.iter().map(Usage::tokens_per_second)),
            prefill: median(usages.iter().map(|usage| {
                let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
                f64::from(read) * 1000.0 / usage.prefill_ms
            })),
        };
        let entry = self.models().into_iter().find(|entry| entry.name == model);
        let entry = entry.unwrap_or_default();
        Tuning {
            model: model.to_owned(),
            quantization: entry.quantization,
            parameters: entry.parameters,
            cores: self.cores(),
            runs: RUNS,
            measured_s: unix_seconds(),
            spread: usages
                .iter()
                .map(|usages| spread(usages))
                .fold(0.0, f64::max),
            speeds: usages.iter().map(speed).collect(),
        }
    }

    /// The cores that compute, as a list for people.
    fn cores(&self) -> String {
        let big = self.shared.sensors.read().cores.big;
        let cores: Vec<String> = big.iter().map(|cpu| cpu.to_string()).collect();
        cores.join(",")
    }
}

/// A prompt that was not used before, and an answer of some length.
fn submission(model: &str, last: RequestId) -> Submission {
    let words = ["warm", "rain", "on", "the", "old", "roof", "at", "night"];
    let text: Vec<&str> = words.into_iter().cycle().take(WORDS).collect();
    Submission {
        model: Some(model.to_owned()),
        request: GenerateRequest {
            prompt: Prompt::Text(format!("{}{last} {}", unix_seconds(), text.join(" "))),
            sampling: Sampling {
                temperature: Some(0.0),
                ignore_eos: true,
                ..Sampling::default()
            },
            max_tokens: Some(TOKENS),
            priority: Priority::Background,
            ..GenerateRequest::default()
        },
        ..Submission::default()
    }
}

/// Spread of repeated measurements, relative to their median.
fn spread(usages: &[Usage]) -> f64 {
    let speeds = usages.iter().map(Usage::tokens_per_second);
    let (least, most) = speeds.clone().fold((f64::MAX, 0.0), |(least, most), v| {
        (f64::min(least, v), f64::max(most, v))
    });
    (most - least) / median(speeds)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
