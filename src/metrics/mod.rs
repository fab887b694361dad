//! Counters for `/metrics`, in OpenMetrics form (prometheus-client).

mod board;
mod llama_server;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_proto::{FailureKind, Usage};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::caller::Origin;
use crate::daemon::{BoardSnapshot, Status};
use crate::dispatch::Completed;
use board::BoardMetrics;
use llama_server::LlamaServerMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    origin: &'static str,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct User {
    uid: String,
}

/// The source of a prompt's cached tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

/// The maximum number of users with time series of their own; later ones count as `other`.
const USERS_MAX: usize = 32;

type FloatGauge = Gauge<f64, AtomicU64>;

/// All metrics of the service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    users: Mutex<BTreeSet<u32>>,
    user_requests: Family<User, Counter>,
    user_tokens: Family<User, Counter>,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    cache_requests: Family<Source, Counter>,
    cache_tokens: Family<Source, Counter>,
    first_token: Histogram,
    prefill: Histogram,
    decode: Histogram,
    queue: Gauge,
    active: Gauge,
    threads: Gauge,
    crashes: Counter,
    speed: FloatGauge,
    board: BoardMetrics,
    llama_server: LlamaServerMetrics,
}

impl Default for Metrics {
    // Longer than a screen: one entry for each metric.
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hearthd");
        let r = &mut registry;
        let metrics = Self {
            requests: add(r, "requests", "Requests by transport and outcome"),
            users: Mutex::default(),
            user_requests: add(
                r,
                "user_requests",
                "Requests processed by the engine, by user",
            ),
            user_tokens: add(
                r,
                "user_tokens",
                "Tokens computed, by user: prompt tokens that were not cached, and generated tokens",
            ),
            prompt_tokens: add(r, "prompt_tokens", "Prompt tokens"),
            completion_tokens: add(r, "completion_tokens", "Generated tokens"),
            cache_requests: add(
                r,
                "prompt_cache_requests",
                "Answers by the source of their cached prompt tokens",
            ),
            cache_tokens: add(
                r,
                "prompt_cache_tokens",
                "Prompt tokens by source; none: computed",
            ),
            first_token: seconds(
                r,
                "first_token",
                "Time from accepting a request to its first token",
                LONG,
            ),
            prefill: seconds(
                r,
                "prefill",
                "Time to compute the prompt of an answer",
                LONG,
            ),
            decode: seconds(
                r,
                "decode_token",
                "Time per generated token, averaged over an answer",
                SHORT,
            ),
            queue: add(r, "queue_length", "Queued requests"),
            active: add(r, "active_jobs", "Requests that the engine processes"),
            threads: add(
                r,
                "active_threads",
                "Compute threads that the governor allows now",
            ),
            crashes: add(
                r,
                "engine_crashes",
                "Engine processes that crashed or were killed",
            ),
            speed: add(r, "tokens_per_second", "Decode speed of the last answer"),
            board: BoardMetrics::default(),
            llama_server: LlamaServerMetrics::default(),
            registry: Registry::default(),
        };
        metrics.board.register(r);
        Self {
            registry,
            ..metrics
        }
    }
}

/// Lowest bound and number of a histogram's buckets; each bound is twice the one below.
type Buckets = (f64, u16);
/// 10 ms to 160 s: from a PC's cached answer to a board's long prefill.
const LONG: Buckets = (0.01, 15);
/// 1 ms to 8 s: from a small model on a PC to a large one on a throttled board.
const SHORT: Buckets = (0.001, 14);

fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn seconds(registry: &mut Registry, name: &str, help: &str, buckets: Buckets) -> Histogram {
    let (first, count) = buckets;
    let metric = Histogram::new(exponential_buckets(first, 2.0, count));
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

impl Metrics {
    /// Counts a request that was not accepted.
    pub(crate) fn refused(&self, origin: &Origin, kind: FailureKind) {
        self.count(origin, format!("refused_{}", kind.as_str()));
    }

    /// Counts a request that ended while it was queued.
    pub(crate) fn ended_in_queue(&self, origin: &Origin, kind: FailureKind) {
        self.count(origin, kind.as_str().to_owned());
    }

    /// Counts a request that ended in the engine.
    pub(crate) fn completed(&self, completed: &Completed) {
        match &completed.result {
            Ok(usage) => {
                self.count(&completed.caller.origin, "finished".to_owned());
                self.used(usage, completed.from_disk);
            }
            Err(failure) => self.count(&completed.caller.origin, failure.kind.as_str().to_owned()),
        }
        self.user_requests
            .get_or_create(&self.user(completed.user))
            .inc();
        self.computed(completed.user, completed.charged);
        if let Some(first_token) = completed.first_token {
            self.first_token.observe(first_token.as_secs_f64());
        }
    }

    /// Counts what an answer used. The first tokens of its prompt may come from the disk.
    fn used(&self, usage: &Usage, from_disk: bool) {
        let (prompt, cached) = (usage.prompt_tokens, usage.cached_tokens);
        self.prompt_tokens.inc_by(u64::from(prompt));
        self.completion_tokens
            .inc_by(u64::from(usage.completion_tokens));
        let source = match (cached, from_disk) {
            (0, _) => "none",
            (_, true) => "disk",
            (_, false) => "memory",
        };
        self.cache_requests.get_or_create(&Source { source }).inc();
        for (source, tokens) in [(source, cached), ("none", prompt.saturating_sub(cached))] {
            let tokens = u64::from(tokens);
            self.cache_tokens
                .get_or_create(&Source { source })
                .inc_by(tokens);
        }
        self.llama_server.used(usage);
        self.prefill.observe(usage.prefill_ms / 1000.0);
        if usage.completion_tokens > 0 {
            let each = usage.decode_ms / f64::from(usage.completion_tokens);
            self.decode.observe(each / 1000.0);
        }
    }

    /// Counts tokens computed for a user; `None`: shared by all users.
    pub(crate) fn computed(&self, user: Option<u32>, tokens: u32) {
        let label = self.user(user);
        self.user_tokens
            .get_or_create(&label)
            .inc_by(u64::from(tokens));
    }

    fn user(&self, user: Option<u32>) -> User {
        let mut known = self.users.lock();
        let uid = match user {
            None => "shared".to_owned(),
            // TCP does not identify the user.
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

    fn count(&self, origin: &Origin, outcome: String) {
        let origin = origin.as_str();
        let label = Outcome { origin, outcome };
        self.requests.get_or_create(&label).inc();
    }

    /// The metrics as text, with gauges set from `status` and `board`.
    pub(crate) fn encode(&self, status: &Status, board: BoardSnapshot) -> String {
        self.queue.set(i64::from(status.queue_length));
        self.active.set(i64::from(status.active_jobs));
        self.threads.set(i64::from(status.active_threads));
        let crashes = self.crashes.inner();
        crashes.store(status.engine_crashes, Ordering::Relaxed);
        self.board.set(board);
        self.speed.set(status.tokens_per_second);
        self.llama_server
            .set(status.active_jobs, status.queue_length);
        let mut text = String::new();
        // Writing to a string cannot fail.
        _ = encode_registry(&mut text, &self.registry);
        _ = encode_registry(&mut text, &self.llama_server.registry);
        _ = encode_eof(&mut text);
        text
    }
}

#[cfg(test)]
mod tests;
