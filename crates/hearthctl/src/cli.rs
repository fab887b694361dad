//! The command line: every command, the options of all of them, and the exit codes.
//! Options of one command are in its module.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::advise::AdviseArgs;
use crate::bench::BenchCommand;
use crate::cache::CacheCommand;
use crate::candidates::ModelsArgs;
use crate::chat::ChatArgs;
use crate::evaluate::EvaluateArgs;
use crate::fit::FitArgs;
use crate::generate::GenerateArgs;
use crate::global::Global;
use crate::import::ImportArgs;
use crate::jobs::{SubmitArgs, job_id};
use crate::prewarm::PrewarmArgs;
use crate::pull::PullArgs;
use crate::quantize::{ImatrixArgs, QuantizeArgs};
use crate::rerank::RerankArgs;
use crate::simulate::SimulateArgs;
use crate::status::StatusArgs;
use crate::tune::TuneArgs;

/// Shown after the help of `hearthctl` itself.
const AFTER_HELP: &str = "\
First steps:
  hearthctl status                  the state of the service
  hearthctl generate 'Hello!'       one answer
  hearthctl chat                    a conversation
  sudo hearthctl pull hf:ORG/REPO   download a model, for example one of
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

The form of the output with --json is described in hearthctl-json(5); --json=1 asks for
version 1 of it. A failure is a document too, on the last line of standard output:
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

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer one prompt and print the answer as it is generated.
    Generate(GenerateArgs),
    /// Hold a conversation: interactive, or one message per line from a pipe.
    ///
    /// With --mcp the model can call tools of MCP servers (Model Context Protocol), which
    /// are started as the calling user and end with the chat. FILE has the form that other
    /// clients use: `{"mcpServers": {"NAME": {"command": "...", "args": [...],
    /// "env": {...}}}}`, with the optional entries `cwd`, `disabled` and `alwaysAllow`, a
    /// list of tools that need no confirmation.
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
    /// Unload a model and free its memory.
    Unload {
        /// A name that `hearthctl models` lists; all models if omitted.
        name: Option<String>,
    },
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
    /// Sort lines of text by how well they match a query, with a reranker.
    ///
    /// Prints the score of each line and the line, the best match first.
    Rerank(RerankArgs),
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn invalid_arguments_are_refused() {
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
