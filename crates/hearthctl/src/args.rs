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

pub use bench::{BenchCommand, BenchModelArgs, BenchShapeArgs, BenchStudyArgs, Reset};
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

/// Talk to Hearthd: language models on the small computer in the house.
#[derive(Debug, Parser)]
#[command(name = "hearthctl", version, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(max_term_width = 100)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Print JSON: one document, or one object a line for what streams.
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,
    /// Bus to use instead of the system bus, e.g. `unix:path=/tmp/bus`.
    #[arg(long, global = true, display_order = 901)]
    #[arg(value_name = "ADDRESS", value_parser = bus_address)]
    pub bus_address: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer one prompt, writing while the model thinks.
    Generate(GenerateArgs),
    /// Hold a conversation: interactive, or one message a line from a pipe.
    Chat(ChatArgs),
    /// Show what the service is doing, and what limits it.
    Status(StatusArgs),
    /// Watch the board: temperature, threads, memory, and what was decided.
    ///
    /// Draws on the terminal until you press q.
    Top,
    /// List the installed models, or with --fit all that this board could run.
    Models(ModelsArgs),
    /// Show how much memory a model takes, and whether that fits.
    ///
    /// Only the file's header is read, and no service is needed. The settings are those
    /// of the default configuration but for what you give here.
    Fit(FitArgs),
    /// Fetch a model from the network and give it to the service.
    ///
    /// This is done as you: the service has no network. What was fetched before a break,
    /// Ctrl-C or a power cut stays in ~/.cache/hearthd/downloads, and the same command goes
    /// on from there. The file's digest is checked before anything uses it. Importing is
    /// for root, unless `dbus.model_admins` in /etc/hearthd/hearthd.toml says otherwise.
    ///
    /// `HF_TOKEN` and `HF_ENDPOINT` are those of Hugging Face's tools; proxies are taken from
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    Pull(PullArgs),
    /// Copy a model into the service's store.
    ///
    /// Only root may, unless `dbus.model_admins` in /etc/hearthd/hearthd.toml says
    /// otherwise. The file is checked before it gets its name.
    Import(ImportArgs),
    /// Load a model and wait until it is ready.
    Load {
        /// A name that `hearthctl models` shows; the default model if left out.
        name: Option<String>,
    },
    /// Free the memory of the loaded model.
    Unload,
    /// Delete an imported model from the store.
    ///
    /// Only root may, unless polkit allows it or, where there is no polkit,
    /// `dbus.model_admins` in /etc/hearthd/hearthd.toml.
    Remove {
        /// A name that `hearthctl models` shows.
        name: String,
    },
    /// Manage the prompt cache on disk.
    ///
    /// The beginnings of prompts that recur are kept, so that the first answer after a
    /// restart does not read them again. You see yours and those that all share; root
    /// sees all.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// List the jobs, own and others'.
    Jobs,
    /// Queue a prompt as a job, which goes on after hearthctl ends.
    Submit(SubmitArgs),
    /// Print a job's answer, waiting for it if need be.
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
    /// Print the vectors of texts, one JSON list a line.
    Embed {
        /// The texts; `-`, or none with a pipe, reads standard input as one.
        texts: Vec<String>,
    },
    /// Have a system prompt computed ahead, so that conversations with it start at once.
    ///
    /// It is computed when nothing else is to do, and kept for your user. See
    /// `[[prewarm]]` in /etc/hearthd/hearthd.toml for one that is computed whenever its
    /// model has been loaded, for everyone.
    Prewarm(PrewarmArgs),
    /// Measure how many threads a model is fastest with on this board.
    ///
    /// Waits until the board is cool and has nothing else to do, then asks the model with
    /// 1, 2, ... threads, three times each. The service uses the result from then on.
    Tune(TuneArgs),
    /// Measure this board: how fast a model is on it.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Compare models: perplexity on a text, answers to questions, speed.
    ///
    /// No service is needed. One model is in memory at a time. The text is cut into pieces
    /// of `--context` tokens, and the second half of each is scored. Quantizations of one
    /// model are compared with a reference by the Kullback-Leibler divergence of their
    /// distributions, which says more with less text than their perplexities do.
    Evaluate(EvaluateArgs),
    /// Choose among files of one model in several types: type and context for this board.
    ///
    /// Of those that fit the memory with the context, it takes the smallest whose
    /// divergence from the best one does not matter (0.01 nats, about 1 % of perplexity),
    /// since smaller ones are faster; where there is none, the one with the least.
    Advise(AdviseArgs),
    /// Write a smaller file of a model: its weights in another type.
    ///
    /// No service is needed. Memory is bounded whatever the model's size: about 200 MiB,
    /// which is checked before. The new file is loaded and run before it gets its name; an
    /// interrupted run leaves nothing.
    Quantize(QuantizeArgs),
    /// Find out what matters in each matrix of a model, for `quantize --imatrix`.
    ///
    /// The model reads a text, and the squares of what goes into each matrix are summed up
    /// by column, as llama.cpp's llama-imatrix does; the file is of the same form.
    Imatrix(ImatrixArgs),
    /// Count the tokens of a text.
    CountTokens {
        /// The text; `-`, or none with a pipe, reads standard input.
        text: Option<String>,
    },
    /// Simulate the governor on a model of a board.
    ///
    /// A model of the board's heat, of what its firmware does and of decoding without a
    /// break drives the governor as it is. Nothing is asked of the service. Models are not
    /// boards: the figures compare policies, they promise nothing.
    Simulate(SimulateArgs),
    /// Write the manual pages into a folder (for packaging).
    #[command(hide = true)]
    GenerateMan {
        /// An existing folder.
        dir: PathBuf,
    },
    /// Write shell completions into a folder (for packaging).
    #[command(hide = true)]
    GenerateCompletions {
        /// An existing folder.
        dir: PathBuf,
    },
}

/// `cache`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum CacheCommand {
    /// List them.
    List,
    /// Read each as a whole and compare it with its checksums.
    Verify,
    /// Delete yours, in memory and on disk; all of them as root.
    Clear,
}

/// How to answer; sent with the request, the service fills in the rest.
#[derive(Clone, Debug, Default, Args)]
pub struct RequestArgs {
    /// System prompt: what the model is told before the conversation.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Model to use; the loaded or default one if left out.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The most tokens of an answer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Offer the tools in this file: a JSON list, in OpenAI's form. A call is printed, not
    /// run.
    #[arg(long, value_name = "FILE", value_parser = json_file)]
    pub tools: Option<Value>,
    /// Answer with JSON that is valid against the JSON schema in this file.
    #[arg(long, value_name = "FILE", value_parser = json_file, conflicts_with = "regex")]
    pub schema: Option<Value>,
    /// Answer with a text that this regular expression matches as a whole.
    #[arg(long, value_name = "RE")]
    pub regex: Option<String>,
}

/// Place in the queue.
#[derive(Clone, Debug, Default, Args)]
pub struct QueueArgs {
    /// Give up this many seconds after asking.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub deadline: Option<u32>,
}

/// `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The prompt; `-`, or none with a pipe, reads standard input.
    pub prompt: Option<String>,
    /// How to answer.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Who goes first.
    #[arg(long, default_value = "interactive", value_parser = PRIORITIES)]
    pub priority: String,
    /// Place in the queue.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Print the answer when it is complete, not token by token.
    #[arg(long)]
    pub no_stream: bool,
    /// Print speed and token counts on standard error even without a terminal.
    #[arg(long)]
    pub stats: bool,
}

/// `chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// How to answer.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Who goes first.
    #[arg(long, default_value = "interactive", value_parser = PRIORITIES)]
    pub priority: String,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show it again every second until Ctrl-C.
    #[arg(long, short)]
    pub watch: bool,
}

/// `fit`.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// A GGUF file, or a name that `hearthctl models` shows.
    pub model: String,
    /// Context in tokens; what the model was trained for, at most 4096, if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Type of the key cache: f16 or `q8_0`.
    #[arg(long, value_name = "TYPE", value_parser = kv_type)]
    pub kv_type: Option<KvType>,
    /// Memory to fit into, in MiB; what is free here and now if left out.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    pub memory: Option<u64>,
}

/// `submit`.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The prompt; `-`, or none with a pipe, reads standard input.
    pub prompt: Option<String>,
    /// How to answer.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Who goes first.
    #[arg(long, default_value = "normal", value_parser = PRIORITIES)]
    pub priority: String,
    /// Place in the queue.
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Wait for the answer and print it.
    #[arg(long)]
    pub wait: bool,
}

/// `prewarm`.
#[derive(Debug, Args)]
pub struct PrewarmArgs {
    /// The file with the system prompt; `-` reads standard input.
    pub file: PathBuf,
    /// Model to use; the loaded or default one if left out.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The tools that the conversations will offer: a JSON list, in OpenAI's form.
    #[arg(long, value_name = "FILE", value_parser = json_file)]
    pub tools: Option<Value>,
}

/// `tune`.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Model to measure; the loaded or default one if left out.
    pub model: Option<String>,
    /// Show what has been measured, and measure nothing.
    #[arg(long, conflicts_with_all = ["model", "clear"])]
    pub show: bool,
    /// Forget all that has been measured.
    #[arg(long, conflicts_with = "model")]
    pub clear: bool,
    /// Give up when the board has not been cool and idle for this many seconds in all.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    pub wait: u32,
}

/// `simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The board; see `--list`.
    #[arg(required_unless_present = "list", value_parser = boards())]
    pub board: Option<String>,
    /// List the boards.
    #[arg(long)]
    pub list: bool,
    /// Temperature of the air in degrees Celsius.
    #[arg(
        long,
        value_name = "CELSIUS",
        default_value = "25",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = ambient_celsius)]
    pub ambient: f64,
    /// For how many hours, up to 48.
    #[arg(long, default_value = "1", value_parser = hours)]
    pub hours: f64,
    /// The policy, as `governor.policy` in /etc/hearthd/hearthd.toml.
    #[arg(long, default_value = "balanced", value_parser = ["balanced", "throughput", "quiet"])]
    pub policy: String,
    /// Share of the computing power that the policy quiet allows.
    #[arg(long, value_name = "N", default_value = "60")]
    #[arg(value_parser = clap::value_parser!(u8).range(5..=100))]
    pub power_percent: u8,
    /// What happens meanwhile, e.g. `fan-fails@20m,ambient+10@40m`.
    #[arg(long, value_name = "EVENT", value_delimiter = ',', value_parser = event)]
    pub events: Vec<Event>,
    /// Draw it into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

fn boards() -> PossibleValuesParser {
    BOARDS.map(|board| board.name).into()
}

/// The words for `--priority`, first to last.
const PRIORITIES: [&str; 3] = ["interactive", "normal", "background"];

/// Refuses a malformed address as wrong usage, before anything is tried.
fn bus_address(text: &str) -> Result<String, String> {
    match text.parse::<zbus::Address>() {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => Err(format!(
            "{e}; an address looks like unix:path=/run/dbus/system_bus_socket"
        )),
    }
}

/// The names of the configuration file.
fn kv_type(text: &str) -> Result<KvType, String> {
    serde_json::from_value(text.into()).map_err(|_| "use f16 or q8_0".to_owned())
}

/// Reads the file, so that a mistake in it is seen before anything is tried.
fn json_file(path: &str) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("{path} is not valid JSON: {e}"))
}

/// Accepts `7` as well as the job's object path.
fn job_id(text: &str) -> Result<String, String> {
    let id = text.strip_prefix(JOBS).unwrap_or(text);
    // What an element of an object path may be.
    if !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Ok(id.to_owned())
    } else {
        Err("a job is the number or path that `hearthctl submit` printed".to_owned())
    }
}

/// Reads an event, for the command line.
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
