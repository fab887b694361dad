//! Work that needs llama.cpp but no service: `hearthctl` starts `hearth-engine offline` as
//! the calling user, writes one [`OfflineJob`] as JSON to its standard input, and reads
//! [`OfflineEvent`]s from its standard output, one per line. Both come from one package.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Failure, Message};

/// The work to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OfflineJob {
    /// Measure the bare engine's speed; ends with a [`BenchResult`].
    Bench(BenchJob),
    /// Evaluate a model on a text and on questions; ends with a [`JudgeResult`].
    Judge(JudgeJob),
    /// Convert a model to another file type; ends with a [`QuantizeResult`].
    Quantize(QuantizeJob),
    /// Compute an importance matrix of a model; ends with an [`ImatrixResult`].
    Imatrix(ImatrixJob),
    /// Measure a model with random weights; ends with a [`ShapeResult`].
    Shape(ShapeJob),
}

/// Progress and result of a job; the last event is `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfflineEvent {
    /// Progress.
    Progress {
        /// The current step, for display.
        what: String,
        /// Steps done.
        done: u64,
        /// The total number.
        total: u64,
    },
    /// The result, of the type that belongs to the job.
    Done(Value),
    /// The job failed.
    Failed(Failure),
}

/// Parameters of a benchmark of the bare engine.
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
    /// Number of runs; the medians are reported.
    pub runs: u32,
    /// Whether batches of several tokens are also measured.
    pub batches: bool,
}

/// Result of a benchmark. Speeds are medians, in tokens per second.
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
    /// Number of runs that the medians are taken over.
    pub runs: u32,
    /// Speed on the prompt.
    pub prefill_tokens_per_s: f64,
    /// Speed on the answer, greedy sampling included.
    pub decode_tokens_per_s: f64,
    /// Memory of the process with the model, mapped files included.
    pub resident_bytes: u64,
    /// Time of a batch of this many tokens, all of them with their logits, relative to a batch
    /// of one. Callers that share a batch share this cost; a draft of tokens that are verified
    /// at once gains only if more of them are accepted.
    pub batch_costs: Vec<(u32, f64)>,
}

/// Parameters of an evaluation of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeJob {
    /// The GGUF file.
    pub model: PathBuf,
    /// The text for the perplexity.
    pub text: String,
    /// Tokens of a chunk of the text.
    pub context: u32,
    /// Compute threads.
    pub threads: u32,
    /// What to do with its distributions.
    pub reference: Option<Reference>,
    /// Questions to answer.
    pub questions: Vec<Question>,
}

/// What to do with a model's distributions over the next token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// Write them to this file, as the reference for other models.
    Make(PathBuf),
    /// Compare them with those in this file.
    Compare(PathBuf),
}

/// A question whose right answers are known: a line of a question file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Its name.
    pub id: String,
    /// The conversation that asks it.
    pub messages: Vec<Message>,
    /// The tools that are offered, in `OpenAI`'s form.
    pub tools: Option<Vec<Value>>,
    /// The answer is right if it contains any of these, regardless of case.
    #[serde(default)]
    pub accept: Vec<String>,
    /// The answer is wrong if it contains any of these.
    #[serde(default)]
    pub reject: Vec<String>,
    /// The only right call, with `name` and `arguments`.
    pub accept_call: Option<Value>,
}

/// Result of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeResult {
    /// The model.
    pub model: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Its perplexity on the text.
    pub text: TextScore,
    /// How many questions it answered correctly.
    pub accuracy: Option<Accuracy>,
}

/// Perplexity of a model on a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextScore {
    /// Tokens that were scored: the second half of each chunk.
    pub scored_tokens: u64,
    /// Their length as text.
    pub scored_bytes: u64,
    /// Tokens of a chunk.
    pub chunk_tokens: u32,
    /// e to the mean loss of a token.
    pub perplexity: f64,
    /// Its standard error.
    pub perplexity_error: f64,
    /// e to the mean loss of a byte: comparable between vocabularies.
    pub byte_perplexity: f64,
    /// Divergence from the reference.
    pub divergence: Option<Divergence>,
    /// Why it cannot be compared with the reference.
    pub no_divergence: Option<String>,
}

/// Divergence of a model from a reference, over all scored tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Mean Kullback-Leibler divergence, in nats.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
    /// Share of positions with the same most likely token.
    pub agreement: f64,
    /// Its standard error.
    pub agreement_error: f64,
}

/// How many questions were answered correctly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Number of correct answers.
    pub right: u32,
    /// The total number.
    pub of: u32,
    /// The names of the questions that were not answered correctly.
    pub wrong: Vec<String>,
}

/// Parameters of a quantization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizeJob {
    /// The GGUF file that is read.
    pub model: PathBuf,
    /// The output file; an existing one is overwritten.
    pub out: PathBuf,
    /// `general.file_type`: a number of `enum llama_ftype`.
    pub file_type: u32,
    /// The file with an importance matrix.
    pub imatrix: Option<PathBuf>,
    /// Compute threads.
    pub threads: u32,
    /// Whether tensors that are already quantized may be quantized again.
    pub allow_requantize: bool,
}

/// Result of a quantization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizeResult {
    /// Weights of the model.
    pub parameters: u64,
    /// Size of the input file.
    pub bytes_before: u64,
    /// Size of the output file.
    pub bytes_after: u64,
    /// Tensors of the model.
    pub tensors: u64,
    /// Tensors that are stored in another type, since their rows are not a multiple of a block.
    pub fallbacks: u64,
    /// Whether the output was also loaded and run; without enough memory for that it was only
    /// read completely.
    pub ran: bool,
}

/// Parameters of an importance matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImatrixJob {
    /// The GGUF file.
    pub model: PathBuf,
    /// The calibration text.
    pub text: String,
    /// The text's name.
    pub name: String,
    /// The output file; an existing one is overwritten.
    pub out: PathBuf,
    /// Tokens of a chunk of the text.
    pub context: u32,
    /// Compute threads.
    pub threads: u32,
}

/// Result of computing an importance matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImatrixResult {
    /// Number of the model's matrices that are covered.
    pub matrices: u64,
    /// Number of chunks of the text.
    pub chunks: u64,
    /// Tokens of a chunk.
    pub chunk_tokens: u32,
}

/// Parameters of a measurement of a model with random weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeJob {
    /// A name of `hearth_gguf::synthetic::SHAPES`.
    pub shape: String,
    /// A name of `hearth_gguf::synthetic::STORAGES`.
    pub storage: String,
    /// The output file; an existing one is overwritten.
    pub out: PathBuf,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens decoded one by one after it.
    pub tokens: u32,
    /// Numbers of compute threads to measure.
    pub threads: Vec<u32>,
    /// Number of runs for each; the medians are reported.
    pub runs: u32,
}

/// Result of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShapeResult {
    /// Weights of the model.
    pub parameters: u64,
    /// Their bytes.
    pub weight_bytes: u64,
    /// Bytes of those that every token reads.
    pub bytes_per_token: u64,
    /// The CPU kernels.
    pub cpu: String,
    /// Milliseconds until the file was loaded.
    pub load_ms: f64,
    /// Memory of the process with the model, mapped files included.
    pub resident_bytes: u64,
    /// One row for each number of threads.
    pub rows: Vec<ShapeRow>,
}

/// Result for a number of threads. Speeds are medians, in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShapeRow {
    /// Compute threads.
    pub threads: u32,
    /// Speed on the prompt.
    pub prefill_tokens_per_s: f64,
    /// Speed on the answer.
    pub decode_tokens_per_s: f64,
    /// Bytes per second that this many threads read from memory.
    pub read_bytes_per_s: f64,
    /// Bandwidth of decoding relative to that: 1 is the limit of the memory.
    pub share_of_limit: f64,
}
