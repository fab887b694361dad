//! `bench`: measures the speed of models on this board.

mod args;
mod study;

use hearth_lab::bench::{self, Shape};
use hearth_lab::offline::threads;
use hearth_proto::BenchJob;
use hearth_proto::units::Bytes;
use serde_json::json;

use crate::error::Result;
use crate::progress::Progress;
use crate::table::Table;
use crate::{fit, output};
pub use args::BenchCommand;
use args::{BenchModelArgs, BenchShapeArgs};

/// `hearthctl bench`.
pub async fn run(as_json: bool, command: &BenchCommand) -> Result {
    match command {
        BenchCommand::Model(args) => model(as_json, args).await,
        BenchCommand::Study(args) => study::run(as_json, args).await,
        BenchCommand::Shape(args) => shape(as_json, args).await,
    }
}

async fn model(as_json: bool, args: &BenchModelArgs) -> Result {
    let model = fit::find(&args.model)?;
    let job = BenchJob {
        model,
        prompt_tokens: args.length.prompt_tokens,
        tokens: args.length.tokens,
        threads: args.threads.unwrap_or_else(threads),
        runs: args.runs,
        batches: as_json,
    };
    let progress = Progress::new("", as_json);
    let result = bench::model(job, &progress).await?;
    drop(progress);
    if as_json {
        return output::json(&json!(result));
    }
    output::note(&format!(
        "{}, {} threads, kernels {}, medians of {}",
        result.model, result.threads, result.cpu, result.runs
    ));
    let mut table = Table::new(&["PART", "SPEED", "NOTES"], &[1]);
    let speed = |value: f64| format!("{value:.1} tokens/s");
    for (part, value, notes) in [
        ("load", format!("{:.0} ms", result.load_ms), String::new()),
        (
            "prefill",
            speed(result.prefill_tokens_per_s),
            format!("prompt of {} tokens", result.prompt_tokens),
        ),
        (
            "decode",
            speed(result.decode_tokens_per_s),
            format!("{} tokens, greedy", result.tokens),
        ),
    ] {
        table.row(vec![part.to_owned(), value, notes]);
    }
    table.print()
}

async fn shape(as_json: bool, args: &BenchShapeArgs) -> Result {
    let shape = Shape {
        shape: args.shape.clone(),
        storage: args.storage.clone(),
        prompt_tokens: args.length.prompt_tokens,
        tokens: args.length.tokens,
        threads: args.threads.clone(),
        runs: args.runs,
    };
    let progress = Progress::new("", as_json);
    let result = bench::shape(shape, &progress).await?;
    drop(progress);
    if as_json {
        return output::json(&json!(result));
    }
    output::note(&format!(
        "{} in {}, {} million weights: {} of weights, {} of memory, {} read for a token; loaded \
         in {:.0} ms; kernels {}, medians of {}",
        args.shape,
        args.storage,
        result.parameters / 1_000_000,
        Bytes(result.weight_bytes),
        Bytes(result.resident_bytes),
        Bytes(result.bytes_per_token),
        result.load_ms,
        result.cpu,
        args.runs
    ));
    let headings = ["THREADS", "PREFILL/S", "DECODE/S", "MEMORY READ/S", "SHARE"];
    let mut table = Table::new(&headings, &[0, 1, 2, 3, 4]);
    for row in &result.rows {
        table.row(vec![
            row.threads.to_string(),
            format!("{:.1}", row.prefill_tokens_per_s),
            format!("{:.1}", row.decode_tokens_per_s),
            format!("{:.1} GB", row.read_bytes_per_s / 1e9),
            format!("{:.0} %", row.share_of_limit * 100.0),
        ]);
    }
    table.print()
}
