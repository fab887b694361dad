//! Counters under the names of llama.cpp's server, beside the daemon's own.

use std::sync::atomic::AtomicU64;

use hearth_proto::Usage;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{FloatGauge, add};

type FloatCounter = Counter<f64, AtomicU64>;

/// What llama-server counts, as far as the daemon knows it.
#[derive(Debug)]
pub(super) struct LlamaServerMetrics {
    /// Without a prefix: the names have a colon.
    pub(super) registry: Registry,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    prompt_seconds: FloatCounter,
    predicted_tokens: Counter,
    predicted_seconds: FloatCounter,
    prompt_speed: FloatGauge,
    predicted_speed: FloatGauge,
    longest: Gauge,
    processing: Gauge,
    deferred: Gauge,
}

impl Default for LlamaServerMetrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        Self {
            prompt_tokens: add(r, "llamacpp:prompt_tokens", "Prompt tokens computed"),
            cached_tokens: add(
                r,
                "llamacpp:prompt_tokens_cached",
                "Prompt tokens found in the prefix cache",
            ),
            prompt_seconds: add(r, "llamacpp:prompt_seconds", "Time spent on prompts"),
            predicted_tokens: add(r, "llamacpp:tokens_predicted", "Tokens generated"),
            predicted_seconds: add(
                r,
                "llamacpp:tokens_predicted_seconds",
                "Time spent on generating",
            ),
            prompt_speed: add(
                r,
                "llamacpp:prompt_tokens_seconds",
                "Prompt tokens per second, of the last answer",
            ),
            predicted_speed: add(
                r,
                "llamacpp:predicted_tokens_seconds",
                "Generated tokens per second, of the last answer",
            ),
            longest: add(
                r,
                "llamacpp:n_tokens_max",
                "Most tokens of a prompt and its answer",
            ),
            processing: add(r, "llamacpp:requests_processing", "Requests in engines"),
            deferred: add(r, "llamacpp:requests_deferred", "Queued requests"),
            registry,
        }
    }
}

impl LlamaServerMetrics {
    /// Counts what an answer used.
    pub(super) fn used(&self, usage: &Usage) {
        let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        self.prompt_tokens.inc_by(u64::from(computed));
        self.cached_tokens.inc_by(u64::from(usage.cached_tokens));
        self.prompt_seconds.inc_by(usage.prefill_ms / 1000.0);
        self.predicted_tokens
            .inc_by(u64::from(usage.completion_tokens));
        self.predicted_seconds.inc_by(usage.decode_ms / 1000.0);
        if usage.prefill_ms > 0.0 {
            let speed = f64::from(computed) * 1000.0 / usage.prefill_ms;
            self.prompt_speed.set(speed);
        }
        self.predicted_speed.set(usage.tokens_per_second());
        let all = i64::from(usage.prompt_tokens) + i64::from(usage.completion_tokens);
        if all > self.longest.get() {
            self.longest.set(all);
        }
    }

    /// Sets what is so now.
    pub(super) fn set(&self, processing: u32, deferred: u32) {
        self.processing.set(processing.into());
        self.deferred.set(deferred.into());
    }
}
