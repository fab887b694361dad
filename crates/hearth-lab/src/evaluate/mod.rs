//! Compares models by perplexity, answers, size and speed.

mod plot;
mod questions;

use std::fs;
use std::path::PathBuf;

use hearth_proto::{BenchJob, BenchResult, JudgeJob, JudgeResult, OfflineJob, Question, Reference};
use serde::{Deserialize, Serialize};

use crate::error::{LabError, Result};
use crate::model::{bits_per_weight, name};
use crate::{Progress, offline};
pub use questions::questions;

/// The default text.
const TEXT: &str = include_str!("text.txt");
/// Tokens of a chunk of text, the default of llama.cpp's tools.
pub const CONTEXT: u32 = 512;
/// Default number of speed measurements.
pub const RUNS: u32 = 3;
/// Length of a speed measurement: tokens of the prompt, and tokens decoded after it.
const SPEED_TOKENS: (u32, u32) = (128, 32);

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct Evaluate {
    /// The model files.
    pub models: Vec<PathBuf>,
    /// The file that the others are compared with; the largest if `None`.
    pub reference: Option<PathBuf>,
    /// File of the text; the included one if `None`.
    pub text: Option<PathBuf>,
    /// Questions to answer.
    pub questions: Vec<Question>,
    /// Tokens of a chunk of the text.
    pub context: u32,
    /// Compute threads.
    pub threads: u32,
    /// Speed measurements of each model.
    pub runs: u32,
}

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

impl Evaluate {
    /// The default evaluation of these models.
    pub fn of(models: Vec<PathBuf>) -> Self {
        Self {
            models,
            reference: None,
            text: None,
            questions: Vec::new(),
            context: CONTEXT,
            threads: offline::threads(),
            runs: RUNS,
        }
    }

    /// Evaluates one model after the other.
    ///
    /// # Errors
    /// Those of [`offline::run`], and of the files.
    pub async fn run(&self, progress: &dyn Progress) -> Result<Evaluation> {
        let files = self.files()?;
        let text = match &self.text {
            Some(path) => crate::model::text(path)?,
            None => TEXT.to_owned(),
        };
        let mut models = Vec::new();
        let distributions = offline::temporary()?;
        for (path, file_bytes) in files {
            let reference = if models.is_empty() {
                Reference::Make(distributions.path().to_owned())
            } else {
                Reference::Compare(distributions.path().to_owned())
            };
            let job = OfflineJob::Judge(JudgeJob {
                model: path.clone(),
                text: text.clone(),
                context: self.context,
                threads: self.threads,
                reference: Some(reference),
                questions: self.questions.clone(),
            });
            let step = format!("loading {}", name(&path));
            let result: JudgeResult = offline::run(&job, &step, progress).await?;
            models.push(Judged {
                path,
                file_bytes,
                bits_per_weight: bits_per_weight(file_bytes, result.parameters),
                result,
                speed: None,
            });
        }
        drop(distributions);
        self.measure(&mut models, progress).await?;
        Ok(Evaluation {
            text: self.text.clone(),
            reference: models.first().map(|m| m.path.clone()).unwrap_or_default(),
            threads: self.threads,
            models,
        })
    }

    /// The files with their sizes, the reference first and none twice.
    fn files(&self) -> Result<Vec<(PathBuf, u64)>> {
        let mut files: Vec<(PathBuf, u64)> = Vec::new();
        for file in self.reference.iter().chain(&self.models) {
            if files.iter().any(|(other, _)| other == file) {
                continue;
            }
            let metadata = fs::metadata(file).map_err(|source| LabError::file(file, source))?;
            files.push((file.clone(), metadata.len()));
        }
        if self.reference.is_none() && !files.is_empty() {
            // The largest first, the others in the given order.
            let most = files.iter().map(|(_, bytes)| *bytes).max();
            let at = files.iter().position(|(_, bytes)| Some(*bytes) == most);
            let first = files.remove(at.unwrap_or(0));
            files.insert(0, first);
        }
        Ok(files)
    }

    /// Measures the speed of each `runs` times, in turn, so that other load on the board
    /// affects all of them.
    async fn measure(&self, models: &mut [Judged], progress: &dyn Progress) -> Result {
        let mut results: Vec<Vec<BenchResult>> = models.iter().map(|_| Vec::new()).collect();
        for run in 1..=self.runs {
            for (model, results) in models.iter().zip(&mut results) {
                let job = OfflineJob::Bench(BenchJob {
                    model: model.path.clone(),
                    prompt_tokens: SPEED_TOKENS.0,
                    tokens: SPEED_TOKENS.1,
                    threads: self.threads,
                    runs: 1,
                    batches: false,
                });
                let step = format!("speed of {}, {run} of {}", name(&model.path), self.runs);
                results.push(offline::run(&job, &step, progress).await?);
            }
        }
        for (model, results) in models.iter_mut().zip(results) {
            model.speed = Speed::of(&results);
        }
        Ok(())
    }
}

impl Speed {
    /// The medians; `None` if nothing was measured.
    fn of(results: &[BenchResult]) -> Option<Self> {
        let median = |of: fn(&BenchResult) -> f64| {
            let mut values: Vec<f64> = results.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        Some(Self {
            load_ms: median(|r| r.load_ms)?,
            prefill_tokens_per_s: median(|r| r.prefill_tokens_per_s)?,
            decode_tokens_per_s: median(|r| r.decode_tokens_per_s)?,
            resident_bytes: results.iter().map(|r| r.resident_bytes).max()?,
        })
    }
}

impl Evaluation {
    /// Whether this model is the one that the others were compared with.
    pub fn is_reference(&self, model: &Judged) -> bool {
        model.path == self.reference
    }

    /// A plot of size against loss, as SVG.
    ///
    /// # Errors
    /// `Plot`.
    pub fn plot(&self) -> Result<String> {
        plot::svg(self).map_err(|e| LabError::Plot(e.to_string()))
    }
}
