//! Measures the speed of a model on this board by thread count, and uses the result.
//!
//! It measures complete requests of priority `background`, one at a time, on a board that
//! is cool and otherwise idle. A disturbed measurement is repeated.

mod store;

use std::sync::Arc;
use std::time::Duration;

use hearth_policy::tuning::nearest;
use hearth_proto::{
    Failure, FailureKind, GenerateRequest, ModelRef, Priority, Prompt, RequestId, Sampling,
    Submission, Usage, Use,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::board::BoardMonitor;
use crate::caller::Caller;
use crate::clock::unix_seconds;
use crate::config::ConfigReader;
use crate::dispatch::Dispatcher;
use crate::engines::EnginePool;
use crate::models::ModelStore;

pub use hearth_policy::tuning::{Speed, Tuning};

/// Measurements of each thread count; their median is robust against one undetected
/// disturbance.
const RUNS: u32 = 3;
/// Tokens of each answer.
const TOKENS: u32 = 24;
/// Words of each prompt.
const WORDS: usize = 64;
/// How often to check whether the board is cool and idle.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Number of disturbed measurements after which the tuning fails.
const DISTURBED_MAX: u32 = 60;

/// Handle on the measurements; clones share everything.
#[derive(Clone, Debug)]
pub struct Tuner {
    config: ConfigReader,
    board: BoardMonitor,
    store: ModelStore,
    pool: EnginePool,
    dispatcher: Dispatcher,
    /// The measurements made on this board.
    tunings: Arc<Mutex<Vec<Tuning>>>,
    /// The running measurement.
    progress: Arc<watch::Sender<Option<TuningProgress>>>,
    /// Held while the measurements are written.
    storing: Arc<tokio::sync::Mutex<()>>,
}

/// Progress of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TuningProgress {
    /// Requests measured so far.
    pub done: u32,
    /// Requests to be measured.
    pub total: u32,
    /// Its current step, or what it waits for.
    pub step: String,
}

/// Ends a measurement on drop: the governor's limits apply again.
struct Measurement<'a>(&'a Tuner);

impl Drop for Measurement<'_> {
    fn drop(&mut self) {
        self.0.progress.send_replace(None);
        self.0.board.measure_with(None);
    }
}

impl Tuner {
    /// Reads the stored measurements.
    pub async fn open(
        config: ConfigReader,
        board: BoardMonitor,
        store: ModelStore,
        pool: EnginePool,
        dispatcher: Dispatcher,
    ) -> Self {
        let path = config.get().paths.tuning.clone();
        let read = tokio::task::spawn_blocking(move || store::read(&path));
        let tunings = read.await.unwrap_or_default();
        Self {
            config,
            board,
            store,
            pool,
            dispatcher,
            tunings: Arc::new(Mutex::new(tunings)),
            progress: Arc::default(),
            storing: Arc::default(),
        }
    }

    /// Applies the stored speeds of each model that is loaded; never returns.
    pub async fn run(&self) {
        let mut pool = self.pool.subscribe();
        let mut loads = 0;
        while pool.wait_for(|pool| pool.loads != loads).await.is_ok() {
            loads = pool.borrow_and_update().loads;
            self.apply().await;
        }
    }

    /// The measurements made on this board.
    pub fn list(&self) -> Vec<Tuning> {
        self.tunings.lock().clone()
    }

    /// Progress of the running measurement.
    pub fn progress(&self) -> Option<TuningProgress> {
        self.progress.borrow().clone()
    }

    /// Progress of the running measurement, and its changes.
    pub fn subscribe(&self) -> watch::Receiver<Option<TuningProgress>> {
        self.progress.subscribe()
    }

    /// Deletes all measurements.
    ///
    /// # Errors
    /// `Io` where the file cannot be written.
    pub async fn forget(&self) -> Result<(), Failure> {
        self.store(Vec::clear).await?;
        self.apply().await;
        Ok(())
    }

    /// Measures a model with 1, 2, … threads, stores the result and uses it. Waits for at
    /// most `wait` in all for a cool and idle board.
    ///
    /// # Errors
    /// `Busy` if a measurement is running already, or the board does not become idle;
    /// `Overheated` if it does not cool down; `OutOfMemory` if memory stays short;
    /// `NotSupported` if the model is too fast to be measured; `Io` if the result cannot be
    /// stored; those of loading and of requests.
    pub async fn tune(
        &self,
        caller: &Caller,
        model: &ModelRef,
        wait: Duration,
    ) -> Result<Tuning, Failure> {
        let threads_max = self.board.status().threads_max;
        let _measurement = self.begin(RUNS * threads_max)?;
        let model = self
            .pool
            .ready_or_load(caller, model, Use::Completion)
            .await?;
        let usages = self.measure_all(caller, &model, threads_max, wait).await?;
        let tuning = self.tuning(&model, &usages);
        if !tuning.is_sound() {
            let message = "the model is too fast on this board to be measured";
            return Err(Failure::new(FailureKind::NotSupported, message));
        }
        let added = tuning.clone();
        self.store(|all| {
            all.retain(|old| old.model != added.model || old.cores != added.cores);
            all.push(added);
        })
        .await?;
        self.apply().await;
        let best = tuning.best().map_or(threads_max, |(threads, _)| threads);
        log::info!(model = model.as_str(), threads = best; "measured: answers are fastest with {best} of {threads_max} threads");
        Ok(tuning)
    }

    fn begin(&self, total: u32) -> Result<Measurement<'_>, Failure> {
        let has_begun = self.progress.send_if_modified(|progress| {
            let is_free = progress.is_none();
            if is_free {
                *progress = Some(TuningProgress {
                    total,
                    ..TuningProgress::default()
                });
            }
            is_free
        });
        if !has_begun {
            let message = "a measurement is already running: wait until it has finished";
            return Err(Failure::new(FailureKind::Busy, message));
        }
        Ok(Measurement(self))
    }

    /// Measures all thread counts in turn; a disturbed measurement is repeated.
    async fn measure_all(
        &self,
        caller: &Caller,
        model: &str,
        threads_max: u32,
        mut wait: Duration,
    ) -> Result<Vec<Vec<Usage>>, Failure> {
        let mut usages: Vec<Vec<Usage>> = vec![Vec::new(); threads_max as usize];
        // The first request of all causes page faults.
        self.wait_until_undisturbed(&mut wait).await?;
        self.measure(caller, model, threads_max).await?;
        let mut disturbed = 0;
        for _ in 0..RUNS {
            for (threads, measured) in (1..).zip(&mut usages) {
                let usage = loop {
                    self.wait_until_undisturbed(&mut wait).await?;
                    if let Some(usage) = self.measure(caller, model, threads).await? {
                        break usage;
                    }
                    disturbed += 1;
                    if disturbed > DISTURBED_MAX {
                        let message = "other work disturbed too many measurements: try again \
                                       when the board is less busy";
                        return Err(Failure::new(FailureKind::Busy, message));
                    }
                };
                measured.push(usage);
                self.change(|progress| progress.done += 1);
            }
        }
        Ok(usages)
    }

    /// Waits until the engine is idle and the board is cool.
    async fn wait_until_undisturbed(&self, wait: &mut Duration) -> Result<(), Failure> {
        loop {
            self.board.read().await;
            let Some((kind, why)) = self.disturbance() else {
                return Ok(());
            };
            if wait.is_zero() {
                return Err(Failure::new(
                    kind,
                    format!("{why}; this did not change in time: try again later"),
                ));
            }
            self.change(|progress| progress.step = format!("waiting: {why}"));
            tokio::time::sleep(POLL_INTERVAL).await;
            *wait = wait.saturating_sub(POLL_INTERVAL);
        }
    }

    /// Why a measurement would not be valid now.
    fn disturbance(&self) -> Option<(FailureKind, String)> {
        if !self.dispatcher.is_idle() || self.pool.is_busy() {
            return Some((FailureKind::Busy, "other requests are running".to_owned()));
        }
        self.board.status().measurement_problem()
    }

    /// Measures one request with this many threads; `None` if it was disturbed.
    async fn measure(
        &self,
        caller: &Caller,
        model: &str,
        threads: u32,
    ) -> Result<Option<Usage>, Failure> {
        self.change(|progress| {
            progress.step = match threads {
                1 => "1 thread".to_owned(),
                n => format!("{n} threads"),
            };
        });
        let last = self.dispatcher.last_id();
        self.board.measure_with(Some(threads));
        self.board.read().await;
        let answered = match self
            .dispatcher
            .submit(caller, submission(model, last))
            .await
        {
            Ok(stream) => stream.collect().await.map(|answer| answer.usage),
            Err(failure) => Err(failure),
        };
        self.board.measure_with(None);
        let was_alone = self.dispatcher.last_id().number() == last.number() + 1;
        let is_undisturbed = self.disturbance().is_none();
        self.board.read().await;
        Ok(Some(answered?).filter(|_| was_alone && is_undisturbed))
    }

    fn change(&self, change: impl FnOnce(&mut TuningProgress)) {
        self.progress.send_if_modified(|progress| {
            let is_running = progress.is_some();
            if let Some(progress) = progress {
                change(progress);
            }
            is_running
        });
    }

    fn tuning(&self, model: &str, usages: &[Vec<Usage>]) -> Tuning {
        let speed = |usages: &Vec<Usage>| Speed {
            decode: median(usages.iter().map(Usage::tokens_per_second)),
            prefill: median(usages.iter().map(|usage| {
                let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
                f64::from(read) * 1000.0 / usage.prefill_ms
            })),
        };
        let (quantization, parameters) = self.quantization_and_size(model);
        Tuning {
            model: model.to_owned(),
            quantization,
            parameters,
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

    /// Changes the measurements in memory and on disk; one change at a time.
    async fn store(&self, change: impl FnOnce(&mut Vec<Tuning>)) -> Result<(), Failure> {
        let _turn = self.storing.lock().await;
        let mut tunings = self.list();
        change(&mut tunings);
        let path = self.config.get().paths.tuning.clone();
        let (file, written) = (path.clone(), tunings.clone());
        let written = tokio::task::spawn_blocking(move || store::write(&file, &written));
        let written = written.await.map_err(std::io::Error::other).flatten();
        written.map_err(|error| {
            let path = path.display();
            Failure::new(FailureKind::Io, format!("cannot write {path}: {error}"))
        })?;
        *self.tunings.lock() = tunings;
        Ok(())
    }

    /// Sets the governor's decode speeds to those of the loaded model, or of a similar one.
    async fn apply(&self) {
        let all = self.list();
        let loaded = self.pool.status().first().map(|model| model.name.clone());
        let speeds = loaded.filter(|_| !all.is_empty()).and_then(|model| {
            let (quantization, parameters) = self.quantization_and_size(&model);
            let known = nearest(&all, &self.cores(), &model, &quantization, parameters)?;
            let most = known.best()?.0.max(known.best_prefill()?.0);
            Some((known.decode()?, Some(most)))
        });
        let (table, most) = speeds.unwrap_or_default();
        self.board.set_speeds(table, most).await;
    }

    /// Quantization and number of parameters of a model, by its header.
    fn quantization_and_size(&self, model: &str) -> (String, u64) {
        let index = self.store.index();
        let header = index.get(model).and_then(|m| m.header.as_ref().ok());
        header.map_or_else(Default::default, |h| (h.quantization.clone(), h.parameters))
    }

    /// The list of cores that compute.
    fn cores(&self) -> String {
        let big = self.board.status().reading.cores.big;
        let cores: Vec<String> = big.iter().map(|cpu| cpu.to_string()).collect();
        cores.join(",")
    }
}

/// A request with a prompt that was not used before, and an answer of [`TOKENS`] tokens.
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
