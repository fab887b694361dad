//! Counters for `/metrics`, in OpenMetrics form (prometheus-client).

mod board;

use std::collections::BTreeSet;
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct User {
    uid: String,
}

/// The most users with series of their own; who comes later is `other`.
const USERS_MAX: usize = 32;

type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// All metrics of the service.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Outcome, Counter>,
    users: Mutex<BTreeSet<u32>>,
    user_requests: Family<User, Counter>,
    user_tokens: Family<User, Counter>,
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
            users: Mutex::default(),
            user_requests: Family::default(),
            user_tokens: Family::default(),
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
            "user_requests",
            "Requests that the engine worked on, by user",
            metrics.user_requests.clone(),
        );
        r.register(
            "user_tokens",
            "Tokens computed, by user: of prompts what was not in the cache, and of answers",
            metrics.user_tokens.clone(),
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
        self.user_requests
            .get_or_create(&self.user(over.user))
            .inc();
        self.computed(over.user, over.charged);
        if let Some(first_token) = over.first_token {
            self.first_token.observe(first_token.as_secs_f64());
        }
    }

    /// Tokens that were computed for a user; `None`: for everybody.
    pub(super) fn computed(&self, user: Option<u32>, tokens: u32) {
        let label = self.user(user);
        self.user_tokens
            .get_or_create(&label)
            .inc_by(u64::from(tokens));
    }

    fn user(&self, user: Option<u32>) -> User {
        let mut known = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = match user {
            None => "shared".to_owned(),
            // Over TCP nobody says who they are.
            Some(u32::MAX) => "unknown".to_owned(),
            Some(uid) if known.contains(&uid) => uid.to_string(),
            Some(uid) if known.len() < USERS_MAX => {
                known.insert(uid);
                uid.to_string()
            }
            Some(_) => "other".to_owned(),
        };
        User { uid }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_users_have_series() {
        let metrics = Metrics::default();
        for uid in (1000..1000 + 40).chain([1000]) {
            metrics.computed(Some(uid), 2);
        }
        metrics.computed(None, 3);
        metrics.computed(Some(u32::MAX), 5);
        let labels = |user| metrics.user(user).uid;
        assert_eq!(labels(Some(1031)), "1031");
        assert_eq!(labels(Some(1032)), "other");
        let count = |label: &str| {
            let uid = label.to_owned();
            metrics.user_tokens.get_or_create(&User { uid }).get()
        };
        assert_eq!((count("1000"), count("other")), (4, 16));
        assert_eq!((count("shared"), count("unknown")), (3, 5));
    }
}
