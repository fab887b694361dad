//! The command line: every command, every option, and the exit codes.

mod bench;
mod judge;
mod models;
mod sampling;

use std::fs;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use hearth_policy::simulator::{BOARDS, Event, ambient_celsius};
use hearth_proto::KvType;
use hearth_proto::bus::JOBS;
use serde_json::Value;

pub use bench::{BenchCommand, BenchModelArgs, BenchShapeArgs, BenchStudyArgs};
pub use judge::{AdviseArgs, EvaluateArgs, ImatrixArgs, QuantizeArgs};
pub use models::{ImportArgs, ModelsArgs, PullArgs};
pub use sampling::SamplingArgs;

/// Shown after the help of `hearthctl` itself.
const AFTER_HELP: &str = "\
First steps:
  hearthctl status                  what is going on
  hearthctl generate 'Hello!'       one answer
  hearthctl chat                    a conversation
  sudo hearthctl pull hf:ORG/REPO   another model; many are to be found at
      https://huggingface.co/models?library=gguf

Exit codes:
  0    ok
  1    the service reported a failure
  2    wrong usage, or a file that cannot be read or written
  3    hearthd cannot be reached
  4    a problem with the model: not found, invalid, or too large for the memory
  5    hearthd is busy or its queue is full: try again later
  6    a download failed: no network, or the server refuses
  130  interrupted (Ctrl-C)

With --json, a failure is a document too, on the last line of standard output:
  {\"error\":{\"kind\":\"QueueFull\",\"message\":\"...\",\"exit_code\":5}}";

/// Control and query hearthd, the local language model service.
#[derive(Debug, Parser)]
#[command(name = "hearthctl", version, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(max_term_width = 100)]
pub struct Cli {
    /// Options that every command accepts.
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Print JSON: one document, or one object per line for streamed output.
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,
    /// Bus to use instead of the system bus, e.g. `unix:path=/tmp/bus`.
    #[arg(long, global = true, display_order = 901)]
    #[arg(value_name = "ADDRESS", value_parser = bus_address)]
    pub bus_address: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer one prompt and print the answer as it is generated.
    Generate(GenerateArgs),
    /// Hold a conversation: interactive, or one message per line from a pipe.
    Chat(ChatArgs),
    /// Show the state of the service and what limits it.
    Status(StatusArgs),
    /// Monitor temperature, threads, memory and the decisions of the governor.
    ///
    /// Updates the terminal until you press q.
    Top,
    /// List the installed models, or with --fit the models that this board can run.
    Models(ModelsArgs),
    /// Estimate the memory that a model needs, and whether it is available.
    ///
    /// Reads only the header of the file and does not contact the service. Options that
    /// are omitted take the values of the default configuration.
    Fit(FitArgs),
    /// Download a model and import it into the service.
    ///
    /// The download runs as the calling user, because the service has no network access.
    /// An interrupted download stays in ~/.cache/hearthd/downloads, and the same command
    /// resumes it. The digest of the file is verified before the file is used. Importing
    /// requires root, unless `dbus.model_admins` in /etc/hearthd/hearthd.toml says
    /// otherwise.
    ///
    /// `HF_TOKEN` and `HF_ENDPOINT` have the same meaning as in Hugging Face's tools.
    /// Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    Pull(PullArgs),
    /// Copy a model into the service's store.
    ///
    /// Requires root, unless `dbus.model_admins` in /etc/hearthd/hearthd.toml says
    /// otherwise. The file is verified before it appears under its name.
    Import(ImportArgs),
    /// Load a model and wait until it is ready.
    Load {
        /// A name that `hearthctl models` lists; the default model if omitted.
        name: Option<String>,
    },
    /// Unload the model and free its memory.
    Unload,
    /// Delete an imported model from the store.
    ///
    /// Requires root, unless polkit or, on systems without polkit, `dbus.model_admins` in
    /// /etc/hearthd/hearthd.toml allows it.
    Remove {
        /// A name that `hearthctl models` lists.
        name: String,
    },
    /// Manage the prompt cache on disk.
    ///
    /// Recurring beginnings of prompts are cached, so that the first answer after a
    /// restart does not compute them again. You see your own entries and the shared ones;
    /// root sees all.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// List the jobs of all users.
    Jobs,
    /// Queue a prompt as a job, which continues after hearthctl exits.
    Submit(SubmitArgs),
    /// Print the answer of a job; wait for it if necessary.
    Result {
        /// The number or path that `submit` printed.
        #[arg(value_parser = job_id)]
        id: String,
    },
    /// Cancel a job.
    Cancel {
        /// The number or path that `submit` printed.
        #[arg(value_parser = job_id)]
        id: String,
    },
    /// Print the embedding vectors of texts, one JSON list per line.
    Embed {
        /// The texts; `-`, or no text with piped input, reads standard input as one text.
        texts: Vec<String>,
    },
    /// Compute a system prompt ahead of time, so that conversations with it start sooner.
    ///
    /// The prompt is computed when the service is idle, and is cached for your user. To
    /// compute a prompt for all users each time its model is loaded, see `[[prewarm]]` in
    /// /etc/hearthd/hearthd.toml.
    Prewarm(PrewarmArgs),
    /// Find the fastest number of threads for a model on this board.
    ///
    /// Waits until the board is cool and idle, then runs the model with 1, 2, ...
    /// threads, three times each. The service uses the result from then on.
    Tune(TuneArgs),
    /// Measure the speed of models on this board.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Compare models: perplexity on a text, answers to questions, speed.
    ///
    /// The service is not contacted. Only one model is in memory at a time. The text is
    /// divided into chunks of `--context` tokens, and the second half of each chunk is
    /// scored. Quantizations of one model are compared with a reference by the
    /// Kullback-Leibler divergence of their distributions, which needs less text than a
    /// comparison of perplexities.
    Evaluate(EvaluateArgs),
    /// Recommend a quantization and a context for this board.
    ///
    /// Takes several files of one model. Among those that fit into memory with the
    /// context, selects the smallest one whose divergence from the best one is negligible
    /// (0.01 nats, about 1 % of perplexity), because smaller files are faster. If there is
    /// none, selects the file with the least divergence.
    Advise(AdviseArgs),
    /// Write a smaller file of a model with its weights in another type.
    ///
    /// The service is not contacted. Memory use does not depend on the size of the model:
    /// about 200 MiB, which is checked first. The new file is loaded and run before it
    /// gets its name. An interrupted run leaves no file behind.
    Quantize(QuantizeArgs),
    /// Compute the importance matrix of a model, for `quantize --imatrix`.
    ///
    /// Runs the model on a text and sums the squares of the inputs of each matrix by
    /// column, as llama.cpp's llama-imatrix does. The file has the same format.
    Imatrix(ImatrixArgs),
    /// Count the tokens of a text.
    CountTokens {
        /// The text; `-`, or none with a pipe, reads standard input.
        text: Option<String>,
    },
    /// Simulate the governor on a model of a board.
    ///
    /// Runs the governor against a model of the board's temperature, its firmware and
    /// continuous decoding. The service is not contacted. The model is an approximation:
    /// use the figures to compare policies, not as predictions.
    Simulate(SimulateArgs),
    /// Write the manual pages into a directory (for packaging).
    #[command(hide = true)]
    GenerateMan {
        /// An existing directory.
        dir: PathBuf,
    },
    /// Write shell completions into a directory (for packaging).
    #[command(hide = true)]
    GenerateCompletions {
        /// An existing directory.
        dir: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum CacheCommand {
    /// List the cached prompts.
    List,
    /// Read each cached prompt in full and verify its checksums.
    Verify,
    /// Delete your cached prompts, in memory and on disk; as root, all cached prompts.
    Clear,
}

/// How to answer. Only what is given is sent; the service has defaults for the rest.
#[derive(Clone, Debug, Default, Args)]
pub struct RequestArgs {
    /// System prompt: instructions that precede the conversation.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Model to use; the loaded or default model if omitted.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Maximum number of tokens in an answer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Offer the tools in this file: a JSON list in OpenAI's format. Tool calls are
    /// printed, not run.
    #[arg(long, value_name = "FILE", value_parser = json_file)]
    pub tools: Option<Value>,
    /// Answer with JSON that is valid against the JSON schema in this file.
    #[arg(long, value_name = "FILE", value_parser = json_file, conflicts_with = "regex")]
    pub schema: Option<Value>,
    /// Answer with a text that this regular expression matches in full.
    #[arg(long, value_name = "RE")]
    pub regex: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct QueueArgs {
    /// Give up after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub deadline: Option<u32>,
}

#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The prompt; `-`, or no prompt with piped input, reads standard input.
    pub prompt: Option<String>,
    #[command(flatten)]
    pub request: RequestArgs,
    /// Scheduling priority of the request.
    #[arg(long, default_value = "interactive", value_parser = PRIORITIES)]
    pub priority: String,
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Print the answer when it is complete instead of token by token.
    #[arg(long)]
    pub no_stream: bool,
    /// Print speed and token counts on standard error even if it is not a terminal.
    #[arg(long)]
    pub stats: bool,
}

#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub request: RequestArgs,
    /// Scheduling priority of the requests.
    #[arg(long, default_value = "interactive", value_parser = PRIORITIES)]
    pub priority: String,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Refresh every second until Ctrl-C.
    #[arg(long, short)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct FitArgs {
    /// A GGUF file, or a name that `hearthctl models` lists.
    pub model: String,
    /// Context in tokens; the training context of the model, at most 4096, if omitted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Type of the key cache: f16 or `q8_0`.
    #[arg(long, value_name = "TYPE", value_parser = kv_type)]
    pub kv_type: Option<KvType>,
    /// Memory limit in MiB; the memory that is available now if omitted.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    pub memory: Option<u64>,
}

#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The prompt; `-`, or no prompt with piped input, reads standard input.
    pub prompt: Option<String>,
    #[command(flatten)]
    pub request: RequestArgs,
    /// Scheduling priority of the job.
    #[arg(long, default_value = "normal", value_parser = PRIORITIES)]
    pub priority: String,
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Wait for the answer and print it.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Args)]
pub struct PrewarmArgs {
    /// File with the system prompt; `-` reads standard input.
    pub file: PathBuf,
    /// Model to use; the loaded or default model if omitted.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Tools that the conversations will offer: a JSON list in OpenAI's format.
    #[arg(long, value_name = "FILE", value_parser = json_file)]
    pub tools: Option<Value>,
}

#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Model to measure; the loaded or default model if omitted.
    pub model: Option<String>,
    /// Show the stored results and measure nothing.
    #[arg(long, conflicts_with_all = ["model", "clear"])]
    pub show: bool,
    /// Delete the stored results.
    #[arg(long, conflicts_with = "model")]
    pub clear: bool,
    /// Give up when the board has not been cool and idle for this many seconds in all.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    pub wait: u32,
}

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Board to simulate; see `--list`.
    #[arg(required_unless_present = "list", value_parser = boards())]
    pub board: Option<String>,
    /// List the boards.
    #[arg(long)]
    pub list: bool,
    /// Ambient temperature in degrees Celsius.
    #[arg(
        long,
        value_name = "CELSIUS",
        default_value = "25",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = ambient_celsius)]
    pub ambient: f64,
    /// Simulated duration in hours, up to 48.
    #[arg(long, default_value = "1", value_parser = hours)]
    pub hours: f64,
    /// Governor policy, as `governor.policy` in /etc/hearthd/hearthd.toml.
    #[arg(long, default_value = "balanced", value_parser = ["balanced", "throughput", "quiet"])]
    pub policy: String,
    /// Share of the computing power that the policy quiet allows, in percent.
    #[arg(long, value_name = "N", default_value = "60")]
    #[arg(value_parser = clap::value_parser!(u8).range(5..=100))]
    pub power_percent: u8,
    /// Events during the simulation, e.g. `fan-fails@20m,ambient+10@40m`.
    #[arg(long, value_name = "EVENT", value_delimiter = ',', value_parser = event)]
    pub events: Vec<Event>,
    /// Write a plot to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

fn boards() -> PossibleValuesParser {
    BOARDS.map(|board| board.name).into()
}

/// Values of `--priority`, highest first.
const PRIORITIES: [&str; 3] = ["interactive", "normal", "background"];

/// Rejects a malformed address as a usage error, before connecting.
fn bus_address(text: &str) -> Result<String, String> {
    match text.parse::<zbus::Address>() {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => Err(format!(
            "{e}; an address looks like unix:path=/run/dbus/system_bus_socket"
        )),
    }
}

/// Accepts the names that the configuration file uses.
fn kv_type(text: &str) -> Result<KvType, String> {
    serde_json::from_value(text.into()).map_err(|_| "use f16 or q8_0".to_owned())
}

/// Reads the file while parsing, so that a mistake in it is a usage error.
fn json_file(path: &str) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("{path} is not valid JSON: {e}"))
}

/// Accepts `7` as well as the job's object path.
fn job_id(text: &str) -> Result<String, String> {
    let id = text.strip_prefix(JOBS).unwrap_or(text);
    // The characters that an element of an object path may have.
    if !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Ok(id.to_owned())
    } else {
        Err("a job is the number or path that `hearthctl submit` printed".to_owned())
    }
}

fn event(text: &str) -> Result<Event, String> {
    text.parse().map_err(|e| format!("{e}"))
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if (0.01..=48.0).contains(&t) => Ok(t),
        _ => Err("hours are a number from 0.01 to 48".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_job_is_a_number_or_a_path() {
        assert_eq!(job_id("7").as_deref(), Ok("7"));
        assert_eq!(job_id("/org/hearthd/Inference1/jobs/7").as_deref(), Ok("7"));
        for wrong in ["", "../7", "/org/hearthd/Inference1/jobs/", "7/x", "é"] {
            assert!(job_id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            &["hearthctl", "generate", "--temperature", "-1", "x"][..],
            &["hearthctl", "generate", "--temperature", "NaN", "x"],
            &["hearthctl", "generate", "--top-p", "1.1", "x"],
            &["hearthctl", "chat", "--min-p", "NaN"],
            &["hearthctl", "chat", "--top-k", "-1"],
            &["hearthctl", "submit", "--repeat-penalty", "0", "x"],
            &["hearthctl", "generate", "--max-tokens", "0", "x"],
            &["hearthctl", "generate", "--priority", "urgent", "x"],
            &["hearthctl", "--bus-address", "nonsense", "status"],
            &["hearthctl", "cancel", "../7"],
            &["hearthctl", "generate", "--schema", "/no/such/file", "x"],
            &["hearthctl", "generate", "--schema", "Cargo.toml", "x"],
            &["hearthctl", "bench", "study", "--endpoint", "https://x"],
            &["hearthctl", "bench", "study", "--against", "x"],
            &["hearthctl", "bench", "study", "--tokens", "1"],
            &["hearthctl", "simulate"],
            &["hearthctl", "simulate", "pi9"],
            &["hearthctl", "simulate", "pi5-fan", "--hours", "0"],
            &["hearthctl", "simulate", "pi5-fan", "--ambient", "NaN"],
            &["hearthctl", "simulate", "pi5-fan", "--events", "fire@1m"],
        ] {
            let error = Cli::try_parse_from(line).expect_err("must be refused");
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
    }
}
