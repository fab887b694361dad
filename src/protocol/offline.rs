//! Work that needs llama.cpp and no service: `hearthctl` starts `hearth-engine offline`
//! for the person, writes one [`OfflineJob`] as JSON on its standard input, and reads
//! [`OfflineEvent`]s from its standard output, one a line. Both come from one package.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failure;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OfflineJob {
    /// Measure the bare engine's speed; ends with a [`BenchResult`].
    Bench(BenchJob),
}

/// What happens meanwhile; the last one is `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfflineEvent {
    /// How far it is.
    Progress {
        /// What is being done, for people.
        what: String,
        /// Steps done.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// The end: what came out, as the job says.
    Done(Value),
    /// The end: why nothing came out.
    Failed(Failure),
}

/// What a benchmark of the bare engine is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchJob {
    /// The GGUF file.
    pub model: PathBuf,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens decoded one by one after it.
    pub tokens: u32,
    /// Compute threads.
    pub threads: u32,
    /// How often; the medians count.
    pub runs: u32,
}

/// What a benchmark measured. Speeds are medians, in tokens a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchResult {
    /// The model.
    pub model: String,
    /// The CPU kernels.
    pub cpu: String,
    /// Milliseconds until the file was loaded.
    pub load_ms: f64,
    /// Compute threads.
    pub threads: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens decoded one by one.
    pub tokens: u32,
    /// Runs that the medians are of.
    pub runs: u32,
    /// Speed on the prompt.
    pub prefill_tokens_per_s: f64,
    /// Speed on the answer, greedy sampling included.
    pub decode_tokens_per_s: f64,
    /// What a batch of so many tokens costs, all of them with their logits, over a batch
    /// of one. Callers that share batches pay this together; a draft of tokens to be
    /// checked at once pays only where more of them hold.
    pub batch_costs: Vec<(u32, f64)>,
}
