//! `bench`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use hearth_gguf::synthetic::{SHAPES, STORAGES};
use serde::Serialize;

use crate::bench::study::{Address, Api, Server};

/// `bench`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure what llama.cpp makes of a model file here, without the service.
    Model(BenchModelArgs),
    /// Ask servers on this computer short questions again and again, and compare them.
    ///
    /// One question and three after each other, as in the study that docs/performance.md
    /// describes: response time, time to the first token, tokens a second, CPU and memory
    /// of the server's processes, temperature. Hearthd's socket is asked unless another is
    /// named; with --against other servers that speak OpenAI's or Ollama's API are asked in
    /// turn with it. Memory and CPU of another user's processes are for root to see.
    Study(BenchStudyArgs),
    /// Measure how fast a model would be here before downloading it.
    ///
    /// Writes a model of random weights with its dimensions into /var/tmp, measures it with
    /// 1, 2, 4, ... threads, and removes it. Decoding a token reads all weights once: the
    /// share is that of the speed at which this board reads its memory.
    Shape(BenchShapeArgs),
}

/// `bench study`.
#[derive(Debug, Args)]
pub struct BenchStudyArgs {
    /// Ask this server instead of Hearthd's socket, e.g. `http://localhost:11434`.
    #[arg(long, value_name = "URL", conflicts_with = "unix", value_parser = str::parse::<Address>)]
    pub endpoint: Option<Address>,
    /// Ask the server on this Unix socket.
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,
    /// How to ask it.
    #[arg(long, value_enum, default_value = "openai")]
    pub api: Api,
    /// The model to ask for; where the server has only one, or one in memory, that one.
    #[arg(long)]
    pub model: Option<String>,
    /// What to call the server in tables and plots.
    #[arg(long, value_name = "LABEL")]
    pub name: Option<String>,
    /// The server's process, where it is not found by itself.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// Another server to ask in turn; several times for several, e.g.
    /// `ollama=http://localhost:11434,api=ollama,model=llama3.2:1b`. Known are api=, model=
    /// and pid=; a Unix socket is `unix:PATH`.
    #[arg(long, value_name = "LABEL=URL", value_parser = str::parse::<Server>)]
    pub against: Vec<Server>,
    /// Counted runs of each form.
    #[arg(long, value_name = "N", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Have every answer be of this many tokens, so that servers are compared by the same
    /// work; as long as the model makes it, up to 256, if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=65536))]
    pub tokens: Option<u32>,
    /// What to reset before each question.
    #[arg(long, value_enum, default_value = "prompt")]
    pub reset: Reset,
    /// Give an answer up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
    /// Draw it into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// What is reset between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    /// Nothing: the same question again, and the server may use what it kept of it.
    None,
    /// The conversation: each begins with words that none began with before, so that no
    /// prompt cache has it. The model stays in memory.
    Prompt,
    /// The same, and the model: it is unloaded before each run, and loading counts. For
    /// servers with Ollama's `keep_alive`, as Hearthd.
    Unload,
}

/// How much a measurement computes.
#[derive(Debug, Args)]
pub struct LengthArgs {
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value = "128")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub prompt_tokens: u32,
    /// Tokens decoded one by one.
    #[arg(long, value_name = "N", default_value = "32")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub tokens: u32,
}

/// `bench model`.
#[derive(Debug, Args)]
pub struct BenchModelArgs {
    /// A GGUF file, or the name of an installed model.
    pub model: String,
    /// How much is computed.
    #[command(flatten)]
    pub length: LengthArgs,
    /// Compute threads; all processors if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Measured runs; the median counts.
    #[arg(long, value_name = "N", default_value = "5")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
}

/// `bench shape`.
#[derive(Debug, Args)]
pub struct BenchShapeArgs {
    /// The model whose dimensions it has.
    #[arg(value_parser = names(&SHAPES), ignore_case = true)]
    pub shape: String,
    /// How its weights are stored.
    #[arg(long = "type", value_name = "TYPE", default_value = "q4_0")]
    #[arg(value_parser = names(&STORAGES), ignore_case = true)]
    pub storage: String,
    /// How much is computed.
    #[command(flatten)]
    pub length: LengthArgs,
    /// Numbers of compute threads, e.g. `1,4`.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Vec<u32>,
    /// Measured runs; the median counts.
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
}

fn names<T>(known: &[(&'static str, T)]) -> PossibleValuesParser {
    PossibleValuesParser::new(known.iter().map(|(name, _)| *name))
}
