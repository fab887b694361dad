//! `evaluate`: compares models by perplexity, answers, size and speed.

mod report;

use std::path::PathBuf;

use clap::Args;
use hearth_lab::evaluate::{CONTEXT, Evaluate, RUNS, questions};
use hearth_lab::offline::threads;

use crate::error::{CtlError, Result};
use crate::progress::Progress;
use crate::{fit, output};

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// GGUF files, or names of installed models.
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<String>,
    /// Text for the perplexity; a short one included in hearthctl if omitted.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Model that the others are compared with; the largest file if omitted.
    #[arg(long, value_name = "MODEL")]
    pub reference: Option<String>,
    /// Questions to answer, one JSON object per line: `id`, `messages`, and `accept`
    /// (texts of which the answer must contain one), `reject` (texts that it must not
    /// contain), or `accept_call`.
    #[arg(long, value_name = "FILE")]
    pub questions: Option<PathBuf>,
    /// Number of tokens per chunk of the text.
    #[arg(long, value_name = "N", default_value_t = CONTEXT)]
    #[arg(value_parser = clap::value_parser!(u32).range(32..=32768))]
    pub context: u32,
    /// Number of compute threads; all processors if omitted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Number of speed measurements per model, taken in turn; the medians are reported. 0
    /// measures no speed.
    #[arg(long, value_name = "N", default_value_t = RUNS)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    pub runs: u32,
    /// Write a plot of size against loss to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// `hearthctl evaluate`.
pub async fn run(as_json: bool, args: &EvaluateArgs) -> Result {
    let questions = args.questions.as_deref().map(questions).transpose()?;
    let evaluate = Evaluate {
        models: args
            .models
            .iter()
            .map(|m| fit::find(m))
            .collect::<Result<_>>()?,
        reference: args.reference.as_deref().map(fit::find).transpose()?,
        text: args.text.clone(),
        questions: questions.unwrap_or_default(),
        context: args.context,
        threads: args.threads.unwrap_or_else(threads),
        runs: args.runs,
    };
    let progress = Progress::new("", as_json);
    let evaluation = evaluate.run(&progress).await?;
    drop(progress);
    if let Some(path) = &args.plot {
        output::file(path, evaluation.plot()?.as_bytes())?;
    }
    if as_json {
        let document = serde_json::to_value(&evaluation);
        return output::json(&document.map_err(|e| CtlError::Unexpected(e.to_string()))?);
    }
    report::show(&evaluation)
}
