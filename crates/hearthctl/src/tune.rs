//! `tune`: finds the best number of threads for a model on this board.

use std::convert::Infallible;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use zbus::Variant;

use crate::bus::{self, Bus, Options};
use crate::error::Result;
use crate::output;
use crate::progress::Progress;
use crate::table::Table;
use crate::value::dict_to_json;

/// How often to query the progress.
const PROGRESS_POLL: Duration = Duration::from_millis(500);

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
    /// Fail after waiting this many seconds in total for a cool and idle board.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    pub wait: u32,
}

/// `hearthctl tune`.
pub async fn run(bus: &Bus, as_json: bool, args: &TuneArgs) -> Result {
    if args.clear {
        bus.tuning.forget(&Options::new()).await?;
        if as_json {
            return output::json(&json!({"forgotten": true}));
        }
        output::note("results deleted: the governor uses its defaults");
        return Ok(());
    }
    let measured: Vec<Value> = if args.show {
        bus.tuning.list().await?.iter().map(dict_to_json).collect()
    } else {
        vec![measure(bus, args).await?]
    };
    if as_json {
        return match (args.show, measured.first()) {
            (false, Some(one)) => output::json(one),
            _ => output::json(&measured.into()),
        };
    }
    if measured.is_empty() {
        output::note("no results: `hearthctl tune` measures");
    }
    for (n, tuning) in measured.iter().enumerate() {
        if n > 0 {
            output::line("")?;
        }
        show(tuning)?;
    }
    Ok(())
}

async fn measure(bus: &Bus, args: &TuneArgs) -> Result<Value> {
    let mut options = bus::ends_with_us();
    options.insert("wait_s", Variant::from(args.wait));
    let mut progress = Progress::new("loading the model", false);
    let model = args.model.as_deref().unwrap_or_default();
    let job = bus.tuning.start_measure(model, &options).await?;
    let measured = tokio::select! {
        measured = bus::finish(bus, &job, |_| ()) => measured,
        never = watch(bus, &progress) => match never {},
    };
    progress.clear();
    measured
}

/// Shows the progress until dropped.
async fn watch(bus: &Bus, progress: &Progress) -> Infallible {
    loop {
        tokio::time::sleep(PROGRESS_POLL).await;
        if !progress.is_shown() {
            continue;
        }
        let Ok(board) = bus.service.get_board().await else {
            continue;
        };
        let board = dict_to_json(&board);
        let number = |key: &str| board[key].as_u64().unwrap_or_default();
        if let Some(doing) = board["tuning"].as_str().filter(|doing| !doing.is_empty()) {
            progress.steps(doing, number("tuning_done"), number("tuning_total"));
        }
    }
}

fn show(tuning: &Value) -> Result {
    let text = |key: &str| tuning[key].as_str().unwrap_or_default();
    output::line(&format!(
        "{} ({}) on cores {}, median of {}, tokens per second:",
        text("model"),
        text("quantization"),
        text("cores"),
        tuning["runs"]
    ))?;
    let mut table = Table::new(&["THREADS", "ANSWERS", "PROMPTS", ""], &[0, 1, 2]);
    let speeds = |key: &str| {
        let list = tuning[key].as_array().cloned().unwrap_or_default();
        list.into_iter().filter_map(|v| v.as_f64())
    };
    let best = tuning["best_threads"].as_u64().unwrap_or_default();
    for (threads, (decode, prefill)) in (1..).zip(speeds("decode").zip(speeds("prefill"))) {
        let mark = if threads == best && tuning["steady"] == true {
            "used for answers"
        } else {
            ""
        };
        table.row(vec![
            threads.to_string(),
            format!("{decode:.1}"),
            format!("{prefill:.1}"),
            mark.to_owned(),
        ]);
    }
    table.print()?;
    let explanation = tuning["explanation"].as_array();
    for line in explanation.into_iter().flatten().filter_map(Value::as_str) {
        output::line(line)?;
    }
    Ok(())
}
