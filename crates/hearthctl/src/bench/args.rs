//! Options of `bench`.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use hearth_gguf::synthetic::{SHAPES, STORAGES};

use super::study::BenchStudyArgs;

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure the speed of llama.cpp with a model file, without the service.
    Model(BenchModelArgs),
    /// Benchmark servers on this computer with short questions and compare them.
    ///
    /// Asks one question and three in sequence, as in the study that docs/performance.md
    /// describes. Measures response time, time to the first token, tokens per second,
    /// temperature, and CPU and memory of the server's processes. Measures Hearthd's
    /// socket unless another server is given. With --against, other servers with OpenAI's
    /// or Ollama's API are measured in turn with it. Run as root, or give --pid, to
    /// measure the processes of another user.
    Study(BenchStudyArgs),
    /// Measure how fast a model would be on this board before downloading it.
    ///
    /// Writes a model of random weights with the same dimensions into /var/tmp, measures
    /// it with 1, 2, 4, ... threads, and removes it. Decoding a token reads all weights
    /// once: SHARE is the fraction of this board's memory read speed that was reached.
    Shape(BenchShapeArgs),
}

#[derive(Debug, Args)]
pub struct LengthArgs {
    /// Number of prompt tokens.
    #[arg(long, value_name = "N", default_value = "128")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub prompt_tokens: u32,
    /// Number of decoded tokens.
    #[arg(long, value_name = "N", default_value = "32")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub tokens: u32,
}

#[derive(Debug, Args)]
pub struct BenchModelArgs {
    /// A GGUF file, or the name of an installed model.
    pub model: String,
    #[command(flatten)]
    pub length: LengthArgs,
    /// Number of compute threads; all processors if omitted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Number of measured runs, of which the median is reported.
    #[arg(long, value_name = "N", default_value = "5")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
}

#[derive(Debug, Args)]
pub struct BenchShapeArgs {
    /// The model whose dimensions are used.
    #[arg(value_parser = names(&SHAPES), ignore_case = true)]
    pub shape: String,
    /// Type of the weights.
    #[arg(long = "type", value_name = "TYPE", default_value = "q4_0")]
    #[arg(value_parser = names(&STORAGES), ignore_case = true)]
    pub storage: String,
    #[command(flatten)]
    pub length: LengthArgs,
    /// Numbers of compute threads to measure, e.g. `1,4`.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Vec<u32>,
    /// Number of measured runs, of which the median is reported.
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
}

fn names<T>(known: &[(&'static str, T)]) -> PossibleValuesParser {
    PossibleValuesParser::new(known.iter().map(|(name, _)| *name))
}
