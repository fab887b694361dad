//! `bench`: what this board makes of a model.

pub mod study;

use hearthd::config::Config;
use hearthd::protocol::{BenchJob, BenchResult, OfflineJob};
use serde_json::json;

use crate::args::{BenchCommand, BenchModelArgs};
use crate::error::Result;
use crate::table::Table;
use crate::{engine, fit, output};

/// `hearthctl bench`.
pub async fn run(as_json: bool, command: &BenchCommand) -> Result {
    match command {
        BenchCommand::Model(args) => model(as_json, args).await,
        BenchCommand::Study(args) => study::run(as_json, args).await,
    }
}

async fn model(as_json: bool, args: &BenchModelArgs) -> Result {
    let model = fit::find(&args.model, &Config::default())?;
    let job = OfflineJob::Bench(BenchJob {
        model,
        prompt_tokens: args.prompt_tokens,
        tokens: args.tokens,
        threads: args.threads.unwrap_or_else(engine::threads),
        runs: args.runs,
    });
    let result: BenchResult = engine::run(&job, "measuring", as_json).await?;
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
