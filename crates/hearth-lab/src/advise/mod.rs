//! Selects one of several quantizations of a model, and a context.

mod choice;
mod identity;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;

use hearth_gguf::fit::{Budget, Wanted, fit};
use hearth_proto::KvType;
use serde::Serialize;

use crate::Progress;
use crate::error::Result;
use crate::evaluate::{Evaluate, Evaluation, Judged};
use crate::model::{header, name};
use choice::choose;
pub use choice::{Choice, NoChoice};
use identity::Identity;

/// What to select from, and for what.
#[derive(Debug)]
pub struct Advise {
    /// The files of one model.
    pub models: Vec<PathBuf>,
    /// Figures of these files; measured if `None`.
    pub evaluation: Option<Evaluation>,
    /// Tokens of the context; the default of the service if `None`.
    pub context: Option<u32>,
    /// Memory for the model.
    pub budget: Budget,
    /// Compute threads, for the memory that they take.
    pub threads: u32,
    /// The least number of tokens per second.
    pub min_speed: Option<u32>,
}

/// The files and the choice among them.
#[derive(Debug, Serialize)]
pub struct Advice {
    /// Memory for the model.
    pub usable_bytes: u64,
    /// The selected file.
    pub chosen: Option<PathBuf>,
    /// The reason for the choice, or why there is none.
    pub why: String,
    /// Why the figures may not say which file is better.
    pub warning: Option<String>,
    /// The files, in the given order.
    pub models: Vec<Candidate>,
    /// The choice as such.
    #[serde(skip)]
    pub choice: Result<Choice, NoChoice>,
}

/// One of the files, with what is known of it.
#[derive(Debug, Serialize)]
pub struct Candidate {
    pub path: PathBuf,
    pub file_bytes: u64,
    /// Whether there is memory for it.
    pub fits: bool,
    /// Memory that it takes, with this context and type of keys.
    pub total_bytes: u64,
    pub context: u32,
    pub kv_type: KvType,
    /// Divergence from the reference and its standard error, in nats; 0 for the reference,
    /// `None` without figures.
    pub divergence: Option<f64>,
    pub divergence_error: Option<f64>,
    /// Tokens per second of an answer.
    pub decode_tokens_per_s: Option<f64>,
    /// What was reduced to make it fit, or why it does not fit.
    #[serde(skip)]
    pub note: String,
    /// Whether the context is as large as requested.
    #[serde(skip)]
    has_whole_context: bool,
    /// The model whose weights the file has.
    #[serde(skip)]
    identity: Identity,
}

impl Advise {
    /// Measures the files that fit, if there are no figures, and selects one.
    ///
    /// # Errors
    /// Those of [`header`] and of [`Evaluate::run`]. That no file can be selected is a
    /// result.
    pub async fn run(self, progress: &dyn Progress) -> Result<Advice> {
        let mut models = Vec::new();
        for path in &self.models {
            models.push(self.candidate(path.clone())?);
        }
        let evaluation = match self.evaluation {
            Some(evaluation) => Some(evaluation),
            None => measure(&models, progress).await?,
        };
        if let Some(evaluation) = &evaluation {
            for model in &mut models {
                model.add_figures(evaluation);
            }
        }
        let choice = choose(&models, self.min_speed);
        Ok(Advice {
            usable_bytes: self.budget.usable().0,
            chosen: choice.as_ref().ok().map(|c| models[c.index].path.clone()),
            why: match &choice {
                Ok(choice) => choice.reason.clone(),
                Err(none) => none.to_string(),
            },
            warning: warning(&models),
            models,
            choice,
        })
    }

    fn candidate(&self, path: PathBuf) -> Result<Candidate> {
        let mut wanted = Wanted::default();
        wanted.context = self.context.unwrap_or(wanted.context);
        let header = header(&path)?;
        let wanted = wanted.settings(&header, self.threads);
        let fitted = fit(&header, &wanted, self.budget);
        let (settings, estimate, note) = match &fitted {
            Ok(fitted) => (fitted.settings, fitted.estimate, fitted.note.clone()),
            Err(no) => (no.settings, no.estimate, no.to_string()),
        };
        Ok(Candidate {
            file_bytes: fs::metadata(&path).map_or(0, |m| m.len()),
            path,
            fits: fitted.is_ok(),
            total_bytes: estimate.total.0,
            context: settings.context,
            kv_type: settings.kv_type,
            divergence: None,
            divergence_error: None,
            decode_tokens_per_s: None,
            note,
            has_whole_context: fitted.is_ok() && settings.context >= wanted.context,
            identity: Identity::of(&header),
        })
    }
}

impl Candidate {
    fn add_figures(&mut self, evaluation: &Evaluation) {
        let of_it = |judged: &&Judged| judged.path == self.path;
        let Some(judged) = evaluation.models.iter().find(of_it) else {
            return;
        };
        if evaluation.is_reference(judged) {
            (self.divergence, self.divergence_error) = (Some(0.0), Some(0.0));
        } else if let Some(divergence) = judged.result.text.divergence {
            self.divergence = Some(divergence.mean);
            self.divergence_error = Some(divergence.error);
        }
        self.decode_tokens_per_s = judged.speed.map(|speed| speed.decode_tokens_per_s);
    }

    /// The divergence with its error, as text.
    pub fn divergence_text(&self) -> Option<String> {
        let (mean, error) = self.divergence.zip(self.divergence_error)?;
        Some(format!("{mean:.4} ± {error:.4}"))
    }
}

/// Evaluates the files that fit, if there is more than one.
async fn measure(models: &[Candidate], progress: &dyn Progress) -> Result<Option<Evaluation>> {
    let fitting = models.iter().filter(|c| c.fits);
    let paths: Vec<PathBuf> = fitting.map(|c| c.path.clone()).collect();
    if paths.len() < 2 {
        return Ok(None);
    }
    Evaluate::of(paths).run(progress).await.map(Some)
}

/// Warns if the files are not of one model: a divergence compares types of the same
/// weights, and does not tell which model is better.
fn warning(models: &[Candidate]) -> Option<String> {
    let (first, others) = models.split_first()?;
    let (other, difference) = others.iter().find_map(|other| {
        let difference = first.identity.difference(&other.identity)?;
        Some((other, difference))
    })?;
    Some(format!(
        "{} and {} are different models ({difference}): their divergence does not tell which is \
         better; compare them with `hearthctl evaluate` and questions of your own",
        name(&first.path),
        name(&other.path),
    ))
}
