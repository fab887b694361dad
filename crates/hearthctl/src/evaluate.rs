//! `evaluate`: compares models by perplexity, answers, size and speed.

mod plot;
pub mod report;

use std::fs;
use std::path::{Path, PathBuf};

use hearth_proto::{BenchJob, BenchResult, JudgeJob, JudgeResult, OfflineJob, Question, Reference};
use serde::{Deserialize, Serialize};

use crate::args::EvaluateArgs;
use crate::error::{CtlError, Result};
use crate::input::text_file;
use crate::made::temporary;
use crate::{draw, engine, fit, output};

/// The default text.
const TEXT: &str = include_str!("evaluate/text.txt");
/// Length of a speed measurement: tokens of the prompt, and tokens decoded after it.
const SPEED_TOKENS: (u32, u32) = (128, 32);

/// The results of all models.
#[derive(Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// The text's file; `None` for the included text.
    pub text: Option<PathBuf>,
    /// The file that the others were compared with.
    pub reference: PathBuf,
    /// Compute threads.
    pub threads: u32,
    /// One entry for each model, the reference first.
    pub models: Vec<Judged>,
}

/// The results of one model.
#[derive(Debug, Serialize, Deserialize)]
pub struct Judged {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub file_bytes: u64,
    /// Bits of the file per weight of the model.
    pub bits_per_weight: f64,
    /// Results on the text and the questions.
    #[serde(flatten)]
    pub result: JudgeResult,
    /// Its speed, if it was measured.
    pub speed: Option<Speed>,
}

/// Medians.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Speed {
    /// Time to load the file.
    pub load_ms: f64,
    /// Tokens per second of a prompt.
    pub prefill_tokens_per_s: f64,
    /// Tokens per second of an answer.
    pub decode_tokens_per_s: f64,
    /// Resident memory of the process, mapped files included.
    pub resident_bytes: u64,
}

/// `hearthctl evaluate`.
pub async fn run(as_json: bool, args: &EvaluateArgs) -> Result {
    let evaluation = evaluate(as_json, args).await?;
    if let Some(path) = &args.plot {
        draw::write(path, plot::svg(&evaluation))?;
    }
    if as_json {
        let document = serde_json::to_value(&evaluation);
        return output::json(&document.map_err(|e| CtlError::Unexpected(e.to_string()))?);
    }
    report::show(&evaluation)
}

/// Evaluates all models.
pub async fn evaluate(quiet: bool, args: &EvaluateArgs) -> Result<Evaluation> {
    let mut files: Vec<PathBuf> = Vec::new();
    let reference = args.reference.iter();
    for model in reference.chain(&args.models) {
        let file = fit::find(model)?;
        if !files.contains(&file) {
            files.push(file);
        }
    }
    let mut sized = Vec::new();
    for file in files {
        let bytes = fs::metadata(&file).map_err(|source| CtlError::File {
            path: file.clone(),
            source,
        })?;
        let bytes = bytes.len();
        sized.push((file, bytes));
    }
    if args.reference.is_none() {
        // The largest first, the others in the given order.
        let most = sized.iter().map(|(_, bytes)| *bytes).max();
        let at = sized.iter().position(|(_, bytes)| Some(*bytes) == most);
        let first = sized.remove(at.unwrap_or(0));
        sized.insert(0, first);
    }
    let text = match &args.text {
        Some(path) => text_file(path)?,
        None => TEXT.to_owned(),
    };
    let questions = match &args.questions {
        Some(path) => read_questions(path)?,
        None => Vec::new(),
    };
    let threads = args.threads.unwrap_or_else(engine::threads);
    let mut models = Vec::new();
    let kept = temporary()?;
    for (path, file_bytes) in sized {
        let reference = if models.is_empty() {
            Reference::Make(kept.path().to_owned())
        } else {
            Reference::Compare(kept.path().to_owned())
        };
        let job = OfflineJob::Judge(JudgeJob {
            model: path.clone(),
            text: text.clone(),
            context: args.context,
            threads,
            reference: Some(reference),
            questions: questions.clone(),
        });
        let say = format!("loading {}", report::name(&path));
        let result: JudgeResult = engine::run(&job, &say, quiet).await?;
        models.push(Judged {
            path,
            file_bytes,
            bits_per_weight: report::bits_per_weight(file_bytes, result.parameters),
            result,
            speed: None,
        });
    }
    drop(kept);
    measure(&mut models, args.runs, threads, quiet).await?;
    Ok(Evaluation {
        text: args.text.clone(),
        reference: models.first().map(|m| m.path.clone()).unwrap_or_default(),
        threads,
        models,
    })
}

/// Measures the speed of each `runs` times, in turn, so that other load on the board
/// affects all of them.
async fn measure(models: &mut [Judged], runs: u32, threads: u32, quiet: bool) -> Result {
    let mut results: Vec<Vec<BenchResult>> = models.iter().map(|_| Vec::new()).collect();
    for run in 1..=runs {
        for (model, results) in models.iter().zip(&mut results) {
            let job = OfflineJob::Bench(BenchJob {
                model: model.path.clone(),
                prompt_tokens: SPEED_TOKENS.0,
                tokens: SPEED_TOKENS.1,
                threads,
                runs: 1,
                batches: false,
            });
            let say = format!("speed of {}, {run} of {runs}", report::name(&model.path));
            results.push(engine::run(&job, &say, quiet).await?);
        }
    }
    for (model, results) in models.iter_mut().zip(results) {
        let median = |of: fn(&BenchResult) -> f64| {
            let mut values: Vec<f64> = results.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        model.speed = median(|r| r.load_ms).map(|load_ms| Speed {
            load_ms,
            prefill_tokens_per_s: median(|r| r.prefill_tokens_per_s).unwrap_or(0.0),
            decode_tokens_per_s: median(|r| r.decode_tokens_per_s).unwrap_or(0.0),
            resident_bytes: results.iter().map(|r| r.resident_bytes).max().unwrap_or(0),
        });
    }
    Ok(())
}

/// Reads a file of questions; reports a mistake in it before any model is loaded.
fn read_questions(path: &Path) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for (number, line) in (1..).zip(text_file(path)?.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let wrong =
            |why: String| CtlError::Usage(format!("{}, line {number}: {why}", path.display()));
        let question: Question = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        if question.messages.is_empty() {
            return Err(wrong("it has no messages".to_owned()));
        }
        if question.accept.is_empty() && question.accept_call.is_none() {
            return Err(wrong("it needs `accept` or `accept_call`".to_owned()));
        }
        questions.push(question);
    }
    if questions.is_empty() {
        let why = format!("{} holds no question", path.display());
        return Err(CtlError::Usage(why));
    }
    Ok(questions)
}
