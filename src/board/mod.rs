//! The board monitor: owns the sensors and the governor, and publishes the board's status.
//!
//! Sensors are read on the blocking pool, never on the runtime's thread and never under a
//! lock that others wait for. How often depends on what the engines do; without an engine
//! on a cool board with enough memory, only on request.

mod decisions;
mod settings;
mod status;

use std::sync::Arc;
use std::time::Duration;

use hearth_policy::governor::{Governor, SpeedTable, Verdict};
use hearth_proto::reading::Reading;
use hearth_proto::{Failure, Limits};
use hearth_sensors::Sensors;
use hearth_sensors::process::ProcessMemory;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::changes::publish;
use crate::clock::Clock;
use crate::config::{Config, GovernorConfig};
use decisions::Decisions;
use settings::governor_settings;
pub use status::BoardStatus;
pub(crate) use status::memory_short;

/// Interval between readings while an engine is loaded but idle, or the board is strained.
const INTERVAL_IDLE: Duration = Duration::from_secs(5);
/// The decision logged when the last limit is lifted.
const FULL_SPEED: &str = "no limits apply any more: full speed";

/// Activity of the engines; it determines how often the board is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// No engine runs.
    #[default]
    None,
    /// A model is loaded, and no request runs.
    Idle,
    /// An engine processes requests or loads a model.
    Busy,
}

/// Handle on the monitor; clones share everything.
#[derive(Clone, Debug)]
pub struct BoardMonitor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    sensors: Arc<Sensors>,
    /// Held while the sensors are read.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    status: watch::Sender<BoardStatus>,
    activity: watch::Sender<Activity>,
    /// A reading is wanted before the interval is over.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    governor: Governor,
    verdict: Verdict,
    decisions: Decisions,
    /// Readings begun so far.
    readings: u64,
    /// The number of the last one that was completed.
    completed: u64,
    last_read: Duration,
    /// Thread count of a running measurement.
    measured_threads: Option<u32>,
}

impl BoardMonitor {
    /// A monitor of the configured board, with a first reading.
    pub async fn open(config: &Config, clock: Clock) -> Self {
        let sensors = Arc::new(Sensors::new(&config.paths.sensors_root));
        let threads = match config.engine.threads {
            0 => read_blocking(&sensors, Sensors::threads_max)
                .await
                .unwrap_or(1),
            n => n,
        };
        let mut governor = Governor::new(governor_settings(&config.governor, threads));
        let verdict = governor.observe(Duration::ZERO, &Reading::default());
        let status = BoardStatus {
            reading: Reading::default(),
            limits: verdict.limits,
            verdict: verdict.clone(),
            threads_max: governor.settings().threads_max,
        };
        let monitor = Self {
            shared: Arc::new(Shared {
                clock,
                sensors,
                turn: tokio::sync::Mutex::default(),
                state: Mutex::new(State {
                    governor,
                    verdict,
                    decisions: Decisions::default(),
                    readings: 0,
                    completed: 0,
                    last_read: Duration::ZERO,
                    measured_threads: None,
                }),
                status: watch::Sender::new(status),
                activity: watch::Sender::default(),
                wake: Notify::new(),
            }),
        };
        monitor.read().await;
        monitor
    }

    /// Reads the board as often as its state and the engines' activity require; never
    /// returns.
    pub async fn run(&self) {
        let mut activity = self.shared.activity.subscribe();
        loop {
            let pause = self.pause(*activity.borrow_and_update());
            let due = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.shared.wake.notified() => {}
                // Only the interval changes.
                _ = activity.changed() => continue,
            }
            self.read().await;
        }
    }

    /// Time until the next reading; `None`: only on request.
    fn pause(&self, activity: Activity) -> Option<Duration> {
        let status = self.shared.status.borrow();
        let interval = match activity {
            Activity::Busy => status.interval_busy(),
            Activity::Idle => INTERVAL_IDLE,
            Activity::None if status.is_strained() => INTERVAL_IDLE,
            Activity::None => return None,
        };
        let due = self.shared.state.lock().last_read + interval;
        Some(due.saturating_sub(self.shared.clock.now()))
    }

    /// Reads the sensors and publishes the result. Callers that arrive while a reading is
    /// running share the next one.
    pub async fn read(&self) -> BoardStatus {
        let begun = self.shared.state.lock().readings;
        let _turn = self.shared.turn.lock().await;
        let reading = {
            let mut state = self.shared.state.lock();
            // One that began after this call has been completed by another caller.
            if state.completed > begun {
                drop(state);
                return self.status();
            }
            state.readings += 1;
            state.last_read = self.shared.clock.now();
            state.readings
        };
        if let Some(read) = read_blocking(&self.shared.sensors, Sensors::read).await {
            self.observe(read);
        }
        self.shared.state.lock().completed = reading;
        self.status()
    }

    /// As [`Self::read`] without an engine, since the board is then not read regularly; else
    /// the last status.
    pub async fn recent(&self) -> BoardStatus {
        if *self.shared.activity.borrow() == Activity::None {
            self.read().await
        } else {
            self.status()
        }
    }

    /// The status as last published.
    pub fn status(&self) -> BoardStatus {
        self.shared.status.borrow().clone()
    }

    /// Why the board allows no new requests, as last published.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        self.shared.status.borrow().refusal()
    }

    /// The limits as last published.
    pub(crate) fn limits(&self) -> Limits {
        self.shared.status.borrow().limits
    }

    /// The status and its changes.
    pub fn subscribe(&self) -> watch::Receiver<BoardStatus> {
        self.shared.status.subscribe()
    }

    /// Sets the activity of the engines.
    pub(crate) fn set_activity(&self, activity: Activity) {
        publish(&self.shared.activity, activity);
    }

    /// The system reports memory pressure; the next reading, which follows at once, takes it
    /// into account. May be called from any thread.
    pub fn warn_of_memory(&self) {
        let now = self.shared.clock.now();
        self.shared.state.lock().governor.warn_of_memory(now);
        self.shared.wake.notify_one();
    }

    /// Sets the configured policy and keeps the measured speeds; applies from the next
    /// reading on.
    pub(crate) fn set_config(&self, config: &GovernorConfig) {
        let mut state = self.shared.state.lock();
        let old = state.governor.settings();
        let (table, useful, threads) = (old.table.clone(), old.threads_useful, old.threads_max);
        state
            .governor
            .set_settings(governor_settings(config, threads));
        state.governor.set_table(table, useful);
    }

    /// Sets the decode speeds and the most useful threads, and applies them.
    pub(crate) async fn set_speeds(&self, table: SpeedTable, threads_useful: Option<u32>) {
        {
            let mut state = self.shared.state.lock();
            state.governor.set_table(table, threads_useful);
        }
        self.read().await;
    }

    /// Limits the threads for a measurement; `None` ends it. Applies from the next reading
    /// on, which follows at once.
    pub(crate) fn measure_with(&self, threads: Option<u32>) {
        self.shared.state.lock().measured_threads = threads;
        self.shared.wake.notify_one();
    }

    /// The governor's decisions with their ages, the latest first.
    pub fn decisions(&self) -> Vec<(Duration, String)> {
        let now = self.shared.clock.now();
        self.shared.state.lock().decisions.ages(now)
    }

    /// Which files the readings come from, a line for each kind.
    pub async fn sources(&self) -> Vec<String> {
        let sources = read_blocking(&self.shared.sensors, |sensors| {
            let sources = sensors.sources().to_string();
            sources.lines().map(str::to_owned).collect()
        });
        sources.await.unwrap_or_default()
    }

    /// The systemd unit of a process, if it is known.
    pub async fn unit_of(&self, pid: u32) -> Option<String> {
        read_blocking(&self.shared.sensors, move |sensors| sensors.unit(pid))
            .await
            .flatten()
    }

    /// Memory of a process, if it is known.
    pub(crate) async fn process_memory(&self, pid: u32) -> Option<ProcessMemory> {
        read_blocking(&self.shared.sensors, move |sensors| {
            sensors.process_memory(pid)
        })
        .await
        .flatten()
    }

    fn observe(&self, reading: Reading) {
        let mut state = self.shared.state.lock();
        let now = self.shared.clock.now();
        state.last_read = now;
        let verdict = state.observe(now, &reading);
        let limits = state.under_measurement(verdict.limits);
        let threads_max = state.governor.settings().threads_max;
        drop(state);
        let status = BoardStatus {
            reading,
            verdict,
            limits,
            threads_max,
        };
        publish(&self.shared.status, status);
    }
}

impl State {
    /// Decides on a reading, and logs what has changed.
    fn observe(&mut self, now: Duration, reading: &Reading) -> Verdict {
        let verdict = self.governor.observe(now, reading);
        if verdict.reason != self.verdict.reason {
            if verdict.reason.is_empty() {
                log::info!("{FULL_SPEED}");
                self.decisions.add(now, FULL_SPEED);
            } else {
                log::warn!("{}", verdict.reason);
                self.decisions.add(now, &verdict.reason);
            }
        }
        if verdict.memory != self.verdict.memory {
            let (state, meaning) = (verdict.memory.as_str(), verdict.memory.meaning());
            log::warn!("memory: {state}: {meaning}");
            self.decisions.add(now, &format!("memory: {meaning}"));
        }
        self.verdict = verdict.clone();
        verdict
    }

    /// The limits, with the thread count of a running measurement.
    fn under_measurement(&self, limits: Limits) -> Limits {
        match self.measured_threads {
            Some(threads) => Limits {
                threads: threads.min(limits.threads),
                decode_threads: 0,
                ..limits
            },
            None => limits,
        }
    }
}

/// Runs a function that opens kernel files on the blocking pool; `None` if it panicked.
async fn read_blocking<T: Send + 'static>(
    sensors: &Arc<Sensors>,
    read: impl FnOnce(&Sensors) -> T + Send + 'static,
) -> Option<T> {
    let sensors = Arc::clone(sensors);
    tokio::task::spawn_blocking(move || read(&sensors))
        .await
        .ok()
}
