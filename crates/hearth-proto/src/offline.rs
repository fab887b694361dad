//! Work that needs llama.cpp and no service: `hearthctl` starts `hearth-engine offline`
//! for the person, writes one [`OfflineJob`] as JSON on its standard input, and reads
//! [`OfflineEvent`]s from its standard output, one a line. Both come from one package.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Failure, Message};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OfflineJob {
    /// Measure the bare engine's speed; ends with a [`BenchResult`].
    Bench(BenchJob),
    /// Judge a model by a text and by questions; ends with a [`JudgeResult`].
    Judge(JudgeJob),
    /// Rewrite a model in another type; ends with a [`QuantizeResult`].
    Quantize(QuantizeJob),
    /// Find out what matters in each matrix of a model; ends with an [`ImatrixResult`].
    Imatrix(ImatrixJob),
    /// Measure a model of random weights; ends with a [`ShapeResult`].
    Shape(ShapeJob),
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
    /// Whether batches of several tokens are measured, too.
    pub batches: bool,
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
    /// Memory of the process with the model, mapped files included.
    pub resident_bytes: u64,
    /// What a batch of so many tokens costs, all of them with their logits, over a batch
    /// of one. Callers that share batches pay this together; a draft of tokens to be
    /// checked at once pays only where more of them hold.
    pub batch_costs: Vec<(u32, f64)>,
}

/// What a model is to be judged by.
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
    /// What becomes of its distributions.
    pub reference: Option<Reference>,
    /// Questions that it is to answer.
    pub questions: Vec<Question>,
}

/// What becomes of a model's distributions over the next token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// They are written into this file: others are compared with them.
    Make(PathBuf),
    /// They are compared with those in this file.
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
    /// Any of these in the answer is right, whatever the case.
    #[serde(default)]
    pub accept: Vec<String>,
    /// None of these may be in it.
    #[serde(default)]
    pub reject: Vec<String>,
    /// The one call that is right, with `name` and `arguments`.
    pub accept_call: Option<Value>,
}

/// What came out about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeResult {
    /// The model.
    pub model: String,
    /// Its weights' number.
    pub parameters: u64,
    /// Its perplexity on the text.
    pub text: TextScore,
    /// How many questions it answered rightly.
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
    /// How far it is from the reference.
    pub divergence: Option<Divergence>,
    /// Why it cannot be compared with the reference.
    pub no_divergence: Option<String>,
}

/// How far a model is from a reference, over all scored tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Mean Kullback-Leibler divergence, in nats.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
    /// Share of places with the same likeliest token.
    pub agreement: f64,
    /// Its standard error.
    pub agreement_error: f64,
}

/// How many questions were answered rightly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// So many.
    pub right: u32,
    /// Of so many.
    pub of: u32,
    /// The names of the others.
    pub wrong: Vec<String>,
}

/// What is to be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizeJob {
    /// The GGUF file that is read.
    pub model: PathBuf,
    /// The file that is written, whatever is in it.
    pub out: PathBuf,
    /// `general.file_type`: a number of `enum llama_ftype`.
    pub file_type: u32,
    /// The file of an importance matrix.
    pub imatrix: Option<PathBuf>,
    /// Compute threads.
    pub threads: u32,
    /// Whether what is quantized already may be quantized again.
    pub allow_requantize: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizeResult {
    /// Weights of the model.
    pub parameters: u64,
    /// The read file's size.
    pub bytes_before: u64,
    /// The written file's.
    pub bytes_after: u64,
    /// Tensors of the model.
    pub tensors: u64,
    /// Those that are stored in another type, since their rows are no multiple of a block.
    pub fallbacks: u64,
    /// Whether it was loaded and ran, too; where there is no memory for that it was only
    /// read completely.
    pub ran: bool,
}

/// What an importance matrix is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImatrixJob {
    /// The GGUF file.
    pub model: PathBuf,
    /// What it reads.
    pub text: String,
    /// The text's name.
    pub name: String,
    /// The file that is written, whatever is in it.
    pub out: PathBuf,
    /// Tokens of a chunk of the text.
    pub context: u32,
    /// Compute threads.
    pub threads: u32,
}

/// What was made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImatrixResult {
    /// Matrices of the model that were used.
    pub matrices: u64,
    /// Chunks of the text.
    pub chunks: u64,
    /// Tokens of a chunk.
    pub chunk_tokens: u32,
}

/// What is to be measured without having it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeJob {
    /// A name of `hearth_gguf::synthetic::SHAPES`.
    pub shape: String,
    /// A name of `hearth_gguf::synthetic::STORAGES`.
    pub storage: String,
    /// The file that is written, whatever is in it.
    pub out: PathBuf,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens decoded one by one after it.
    pub tokens: u32,
    /// Numbers of compute threads.
    pub threads: Vec<u32>,
    /// How often each; the medians count.
    pub runs: u32,
}

/// What was measured.
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
    /// By number of threads.
    pub rows: Vec<ShapeRow>,
}

/// What was measured with so many threads. Speeds are medians, in tokens a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShapeRow {
    /// Compute threads.
    pub threads: u32,
    /// Speed on the prompt.
    pub prefill_tokens_per_s: f64,
    /// Speed on the answer.
    pub decode_tokens_per_s: f64,
    /// Bytes a second that so many threads read from memory.
    pub read_bytes_per_s: f64,
    /// What decoding reads, over that: 1 is all that the memory gives.
    pub share_of_limit: f64,
}
