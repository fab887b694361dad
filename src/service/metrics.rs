//! Counters for `/metrics`, in OpenMetrics form (prometheus-client).

mod board;

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::board::Board;
use super::state::Over;
use super::types::Status;
use crate::protocol::FailureKind;
use board::BoardMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: String,
}

type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// All metrics of the service.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Outcome, Counter>,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    first_token: Histogram,
    queue: Gauge,
    active: Gauge,
    threads: Gauge,
    crashes: Gauge,
    speed: FloatGauge,
    board: BoardMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hearthd");
        let metrics = Self {
            requests: Family::default(),
            prompt_tokens: Counter::default(),
            completion_tokens: Counter::default(),
            // 10 ms to 160 s: a PC's cached answer to a board's long prefill.
            first_token: Histogram::new(exponential_buckets(0.01, 2.0, 15)),
            queue: Gauge::default(),
            active: Gauge::default(),
            threads: Gauge::default(),
            crashes: Gauge::default(),
            speed: FloatGauge::default(),
            board: BoardMetrics::default(),
            registry: Mutex::new(Registry::default()),
        };
        let r = &mut registry;
        r.register(
            "requests",
            "Requests by how they ended",
            metrics.requests.clone(),
        );
        r.register(
            "prompt_tokens",
            "Tokens of prompts",
            metrics.prompt_tokens.clone(),
        );
        r.register(
            "completion_tokens",
            "Tokens generated",
            metrics.completion_tokens.clone(),
        );
        r.register_with_unit(
            "first_token",
            "Time from admission to the first token",
            Unit::Seconds,
            metrics.first_token.clone(),
        );
        r.register("queue_length", "Requests waiting", metrics.queue.clone());
        r.register(
            "active_jobs",
            "Requests in the engine",
            metrics.active.clone(),
        );
        r.register(
            "active_threads",
            "Compute threads allowed now",
            metrics.threads.clone(),
        );
        r.register(
            "engine_crashes",
            "Engine processes lost",
            metrics.crashes.clone(),
        );
        r.register(
            "tokens_per_second",
            "Decode speed of the last answer",
            metrics.speed.clone(),
        );
        metrics.board.register(r);
        *metrics
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }
}

impl Metrics {
    /// A request that was not admitted.
    pub(super) fn refused(&self, kind: FailureKind) {
        self.count(&format!("refused_{}", word(kind)));
    }

    /// A request that is over.
    pub(super) fn over(&self, over: &Over) {
        match &over.result {
            Ok(usage) => {
                self.count("finished");
                self.prompt_tokens.inc_by(u64::from(usage.prompt_tokens));
                self.completion_tokens
                    .inc_by(u64::from(usage.completion_tokens));
            }
            Err(failure) => self.count(&word(failure.kind)),
        }
        if let Some(first_token) = over.first_token {
            self.first_token.observe(first_token.as_secs_f64());
        }
    }

    fn count(&self, outcome: &str) {
        let outcome = outcome.to_owned();
        self.requests.get_or_create(&Outcome { outcome }).inc();
    }

    /// The text, with gauges set from `status` and `board`.
    pub(super) fn encode(&self, status: &Status, board: Board) -> String {
        self.queue.set(i64::from(status.queue_length));
        self.active.set(i64::from(status.active_jobs));
        self.threads.set(i64::from(status.active_threads));
        self.crashes
            .set(i64::try_from(status.engine_crashes).unwrap_or(i64::MAX));
        self.board.set(board);
        self.speed.set(status.tokens_per_second);
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if encode(&mut text, &registry).is_err() {
            _ = write!(text, "# EOF");
        }
        text
    }
}

/// The kind as its JSON name.
fn word(kind: FailureKind) -> String {
    serde_json::to_value(kind)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}
