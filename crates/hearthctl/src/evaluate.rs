//! `evaluate`: compares models by perplexity, answers, size and speed.

mod report;

use hearth_lab::evaluate::{Evaluate, questions};
use hearth_lab::offline::threads;

use crate::args::EvaluateArgs;
use crate::error::{CtlError, Result};
use crate::progress::Progress;
use crate::{fit, output};

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
