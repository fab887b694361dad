//! `bench`.

use clap::{Args, Subcommand};

/// `bench`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure what llama.cpp makes of a model file here, without the service.
    Model(BenchModelArgs),
}

/// `bench model`.
#[derive(Debug, Args)]
pub struct BenchModelArgs {
    /// A GGUF file, or the name of an installed model.
    pub model: String,
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value = "128")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub prompt_tokens: u32,
    /// Tokens decoded one by one.
    #[arg(long, value_name = "N", default_value = "32")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub tokens: u32,
    /// Compute threads; all processors if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Measured runs; the median counts.
    #[arg(long, value_name = "N", default_value = "5")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
}
