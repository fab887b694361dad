//! `advise`: selects one of several quantizations of a model, and a context.

use std::fs;
use std::path::PathBuf;

use hearth_gguf::Header;
use hearth_gguf::fit::{Budget, Fitted, NoFit, Wanted, fit};
use hearth_proto::units::Bytes;
use hearth_sensors::Sensors;
use serde_json::json;

use crate::args::{AdviseArgs, EvaluateArgs};
use crate::error::{CtlError, Result};
use crate::evaluate::report::name;
use crate::evaluate::{Evaluation, Judged, evaluate};
use crate::fit::{find, header, memory};
use crate::output;
use crate::table::Table;

/// A divergence below this is negligible, in nats: it makes a text less probable by about
/// one per cent per token, as a perplexity that is one per cent higher does.
const LOSS_SMALL: f64 = 0.01;

/// One of the files, with what is known of it.
#[derive(Debug)]
struct Candidate {
    path: PathBuf,
    bytes: u64,
    fitted: Result<Fitted, NoFit>,
    /// Whether the context is as large as requested.
    is_whole: bool,
    /// Divergence from the best one and its standard error; `None` without figures.
    loss: Option<(f64, f64)>,
    /// Tokens per second of an answer.
    speed: Option<f64>,
    /// The model whose weights the file has.
    identity: Identity,
}

/// What files of one model have in common, whatever their type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Identity {
    architecture: String,
    name: String,
    /// Blocks, embedding width, feed-forward width, tokens of the vocabulary.
    shape: [u32; 4],
}

impl Identity {
    fn of(header: &Header) -> Self {
        let shape = &header.shape;
        Self {
            architecture: header.architecture.clone(),
            name: header.name.clone(),
            shape: [
                shape.blocks,
                shape.width,
                shape.feed_forward,
                shape.vocabulary,
            ],
        }
    }

    /// Why two files cannot be of the same model; empty if they can.
    fn difference(&self, other: &Self) -> String {
        if self.architecture != other.architecture {
            return format!("{} and {}", self.architecture, other.architecture);
        }
        if self.shape != other.shape {
            return "their dimensions differ".to_owned();
        }
        if self.name != other.name {
            return format!("they are called {:?} and {:?}", self.name, other.name);
        }
        String::new()
    }
}

/// The selected file, and the reason.
#[derive(Debug, PartialEq, Eq)]
struct Choice {
    at: usize,
    why: String,
}

/// Why no file was selected, with the kind of failure.
#[derive(Debug)]
struct NoChoice {
    kind: &'static str,
    why: String,
}

/// `hearthctl advise`.
pub async fn run(as_json: bool, args: &AdviseArgs) -> Result {
    let known = args.from.as_deref().map(read).transpose()?;
    let paths = match &known {
        Some(known) => known.models.iter().map(|m| m.path.clone()).collect(),
        None => args
            .models
            .iter()
            .map(|m| find(m))
            .collect::<Result<Vec<_>>>()?,
    };
    let sensors = Sensors::new("/");
    let budget = memory(&sensors, args.memory)?;
    let mut candidates = Vec::new();
    for path in paths {
        candidates.push(candidate(path, args, &sensors, budget)?);
    }
    let figures = match known {
        Some(known) => Some(known),
        None => measure(&candidates, as_json).await?,
    };
    if let Some(figures) = &figures {
        for candidate in &mut candidates {
            let judged = figures.models.iter().find(|m| m.path == candidate.path);
            candidate.loss = judged.and_then(|j| loss(j, figures));
            candidate.speed = judged.and_then(|j| j.speed).map(|s| s.decode_tokens_per_s);
        }
    }
    let choice = choose(&candidates, args.min_speed);
    let warning = warning(&candidates);
    if as_json {
        output::json(&document(&candidates, &choice, budget, warning.as_deref()))?;
    } else {
        show(&candidates, &choice)?;
        if let Some(warning) = &warning {
            output::note(warning);
        }
    }
    choice
        .map(drop)
        .map_err(|no| CtlError::service(no.kind, no.why))
}

/// Warns if the files are not of one model: a divergence compares types of the same
/// weights, and does not tell which model is better.
fn warning(candidates: &[Candidate]) -> Option<String> {
    let (first, others) = candidates.split_first()?;
    let (other, why) = others.iter().find_map(|other| {
        let why = first.identity.difference(&other.identity);
        (!why.is_empty()).then_some((other, why))
    })?;
    Some(format!(
        "these are different models ({} and {}: {why}): their divergence does not say which is \
         better; compare them with `hearthctl evaluate` and questions of your own",
        name(&first.path),
        name(&other.path),
    ))
}

/// Reads what `evaluate --json` wrote.
fn read(path: &std::path::Path) -> Result<Evaluation> {
    let text = fs::read_to_string(path).map_err(|source| CtlError::File {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|e| {
        CtlError::Usage(format!(
            "{} is not what hearthctl evaluate --json writes: {e}",
            path.display()
        ))
    })
}

fn candidate(
    path: PathBuf,
    args: &AdviseArgs,
    sensors: &Sensors,
    budget: Budget,
) -> Result<Candidate> {
    let mut wanted = Wanted::default();
    wanted.context = args.context.unwrap_or(wanted.context);
    let header = header(&path)?;
    let wanted = wanted.settings(&header, sensors.threads_max());
    let fitted = fit(&header, &wanted, budget);
    let bytes = fs::metadata(&path).map_or(0, |m| m.len());
    let is_whole = fitted
        .as_ref()
        .is_ok_and(|f| f.settings.context >= wanted.context);
    Ok(Candidate {
        path,
        bytes,
        is_whole,
        fitted,
        loss: None,
        speed: None,
        identity: Identity::of(&header),
    })
}

/// Evaluates the files that fit, if there is more than one.
async fn measure(candidates: &[Candidate], quiet: bool) -> Result<Option<Evaluation>> {
    let fitting = candidates.iter().filter(|c| c.fitted.is_ok());
    let models: Vec<String> = fitting
        .map(|c| c.path.to_string_lossy().into_owned())
        .collect();
    if models.len() < 2 {
        return Ok(None);
    }
    evaluate(quiet, &EvaluateArgs::of(models)).await.map(Some)
}

/// The divergence; `None` for the reference.
fn loss(judged: &Judged, figures: &Evaluation) -> Option<(f64, f64)> {
    if judged.path == figures.reference {
        return Some((0.0, 0.0));
    }
    let divergence = judged.result.text.divergence?;
    Some((divergence.mean, divergence.error))
}

/// Selects, among the files that fit, the smallest whose loss is negligible; otherwise
/// the one with the least loss. Files that fit with the whole context are preferred.
fn choose(candidates: &[Candidate], min_speed: Option<u32>) -> Result<Choice, NoChoice> {
    let fits = |c: &Candidate| c.fitted.is_ok();
    let fast = |c: &Candidate| match (min_speed, c.speed) {
        (Some(least), Some(speed)) => speed >= f64::from(least),
        _ => true,
    };
    let count = candidates.iter().filter(|c| fits(c)).count();
    if count == 0 {
        let least = candidates.iter().min_by_key(|c| c.bytes);
        let why = least.and_then(|c| c.fitted.as_ref().err());
        let why = why.map(ToString::to_string).unwrap_or_default();
        return Err(NoChoice {
            kind: "OutOfMemory",
            why: format!("none of them fits; of the smallest: {why}"),
        });
    }
    let mut left: Vec<usize> = (0..candidates.len())
        .filter(|n| fits(&candidates[*n]) && fast(&candidates[*n]))
        .collect();
    if left.is_empty() {
        let best = candidates
            .iter()
            .filter(|c| fits(c))
            .filter_map(|c| c.speed);
        let best = best.fold(0.0, f64::max);
        return Err(NoChoice {
            kind: "TooSlow",
            why: format!(
                "none that fits is fast enough: the fastest has {best:.1} tokens/s; lower \
                 --min-speed, or take a smaller model"
            ),
        });
    }
    if left.iter().any(|n| candidates[*n].is_whole) {
        left.retain(|n| candidates[*n].is_whole);
    }
    let loss = |n: usize| candidates[n].loss.map_or(f64::INFINITY, |l| l.0);
    let of_these = format!("of {count} that fit");
    let small = left.iter().copied().filter(|n| loss(*n) < LOSS_SMALL);
    if let Some(at) = small.min_by_key(|n| candidates[*n].bytes) {
        let why = format!(
            "{of_these}, the smallest whose divergence does not matter: {}, and below {LOSS_SMALL} \
             counts as none{}",
            described(candidates[at].loss),
            compared(candidates, at, &left)
        );
        return Ok(Choice { at, why });
    }
    let best = left.iter().copied().min_by(|a, b| {
        let larger_first = candidates[*b].bytes.cmp(&candidates[*a].bytes);
        loss(*a).total_cmp(&loss(*b)).then(larger_first)
    });
    let at = best.unwrap_or(left[0]);
    let why = match candidates[at].loss {
        Some(_) => format!(
            "{of_these}, the one with the least divergence, {}{}",
            described(candidates[at].loss),
            compared(candidates, at, &left)
        ),
        None if count == 1 => "the only one that fits".to_owned(),
        None => format!("{of_these}, the largest: there are no figures to compare them by"),
    };
    Ok(Choice { at, why })
}

fn described(loss: Option<(f64, f64)>) -> String {
    match loss {
        Some((loss, error)) => format!("{loss:.4} ± {error:.4}"),
        None => "unknown".to_owned(),
    }
}

/// Compares with the next larger file: the accuracy given up and the speed gained.
fn compared(candidates: &[Candidate], at: usize, left: &[usize]) -> String {
    let chosen = &candidates[at];
    let larger = left.iter().map(|n| &candidates[*n]);
    let larger = larger
        .filter(|c| c.bytes > chosen.bytes)
        .min_by_key(|c| c.bytes);
    let Some(larger) = larger else {
        return String::new();
    };
    let speed = match (chosen.speed, larger.speed) {
        (Some(a), Some(b)) => format!(", {a:.1} against {b:.1} tokens/s"),
        _ => String::new(),
    };
    format!(
        "; the next larger, {}, has {} and {} against {}{speed}",
        name(&larger.path),
        described(larger.loss),
        Bytes(larger.bytes),
        Bytes(chosen.bytes),
    )
}

fn show(candidates: &[Candidate], choice: &Result<Choice, NoChoice>) -> Result {
    let headings = [
        "MODEL",
        "SIZE",
        "MEMORY",
        "CONTEXT",
        "KEYS",
        "KL DIVERGENCE",
        "DECODE/S",
        "",
    ];
    let mut table = Table::new(&headings, &[1, 2, 3, 5, 6]);
    for (n, candidate) in candidates.iter().enumerate() {
        let chosen = choice.as_ref().is_ok_and(|choice| choice.at == n);
        let (total, context, keys, mark) = match &candidate.fitted {
            Ok(f) => (
                f.estimate.total,
                f.settings.context.to_string(),
                f.settings.kv_type.as_str(),
                if chosen { "<- take this" } else { "" },
            ),
            Err(no) => (no.estimate.total, "-".to_owned(), "-", "does not fit"),
        };
        table.row(vec![
            name(&candidate.path),
            Bytes(candidate.bytes).to_string(),
            total.to_string(),
            context,
            keys.to_owned(),
            candidate
                .loss
                .map_or_else(|| "-".to_owned(), |l| described(Some(l))),
            candidate
                .speed
                .map_or_else(|| "-".to_owned(), |s| format!("{s:.1}")),
            mark.to_owned(),
        ]);
    }
    table.print()?;
    let Ok(choice) = choice else { return Ok(()) };
    let candidate = &candidates[choice.at];
    output::line(&format!("{}: {}.", name(&candidate.path), choice.why))?;
    if let Ok(fitted) = &candidate.fitted
        && !fitted.note.is_empty()
    {
        output::line(&fitted.note)?;
    }
    Ok(())
}

fn document(
    candidates: &[Candidate],
    choice: &Result<Choice, NoChoice>,
    budget: Budget,
    warning: Option<&str>,
) -> serde_json::Value {
    let models: Vec<_> = candidates
        .iter()
        .map(|c| {
            let (settings, estimate) = match &c.fitted {
                Ok(f) => (&f.settings, &f.estimate),
                Err(no) => (&no.settings, &no.estimate),
            };
            json!({
                "path": c.path,
                "file_bytes": c.bytes,
                "fits": c.fitted.is_ok(),
                "total_bytes": estimate.total.0,
                "context": settings.context,
                "kv_type": settings.kv_type.as_str(),
                "divergence": c.loss.map(|l| l.0),
                "divergence_error": c.loss.map(|l| l.1),
                "decode_tokens_per_s": c.speed,
            })
        })
        .collect();
    let chosen = choice.as_ref().ok();
    json!({
        "usable_bytes": budget.usable().0,
        "chosen": chosen.map(|c| &candidates[c.at].path),
        "why": match choice {
            Ok(choice) => &choice.why,
            Err(no) => &no.why,
        },
        "warning": warning,
        "models": models,
    })
}

#[cfg(test)]
mod tests {
    use hearth_gguf::fit::{Settings, estimate};

    use super::*;

    fn candidate(name: &str, bytes: u64, loss: f64, speed: f64) -> Candidate {
        let settings = Settings::plain(4096);
        let fitted = Fitted {
            settings,
            estimate: estimate(&Header::default(), &settings),
            note: String::new(),
        };
        Candidate {
            path: name.into(),
            bytes,
            fitted: Ok(fitted),
            is_whole: true,
            loss: Some((loss, loss / 20.0)),
            speed: Some(speed),
            identity: Identity::default(),
        }
    }

    fn too_large(name: &str, bytes: u64) -> Candidate {
        let mut candidate = candidate(name, bytes, 0.0, 1.0);
        let settings = Settings::plain(2048);
        let budget = Budget::all(Bytes::mib(1));
        candidate.fitted = fit(&Header::default(), &settings, budget);
        assert!(candidate.fitted.is_err());
        candidate
    }

    fn chosen(candidates: &[Candidate], min_speed: Option<u32>) -> String {
        let choice = choose(candidates, min_speed).unwrap();
        candidates[choice.at].path.display().to_string()
    }

    #[test]
    fn the_smallest_without_a_loss_that_matters_is_taken() {
        let all = || {
            vec![
                too_large("f16", 2000),
                candidate("q8", 1000, 0.001, 10.0),
                candidate("q6", 800, 0.004, 12.0),
                candidate("q4", 500, 0.05, 18.0),
            ]
        };
        assert_eq!(chosen(&all(), None), "q6");
        let why = choose(&all(), None).unwrap().why;
        assert!(why.contains("of 3 that fit"), "{why}");
        assert!(why.contains("0.0040 ± 0.0002"), "{why}");
        assert!(
            why.contains("q8") && why.contains("12.0 against 10.0"),
            "{why}"
        );
        // Only those that are fast enough; then the least loss.
        assert_eq!(chosen(&all(), Some(15)), "q4");
        let why = choose(&all(), Some(50)).unwrap_err().why;
        assert!(why.contains("18.0 tokens/s"), "{why}");
    }

    #[test]
    fn different_models_are_said_to_be_different() {
        let mut all = [
            candidate("q8", 1000, 0.001, 10.0),
            candidate("q4", 500, 0.05, 18.0),
        ];
        assert_eq!(warning(&all), None);
        let base = Identity {
            architecture: "qwen2".into(),
            name: "Qwen2.5 0.5B Instruct".into(),
            shape: [24, 896, 4864, 151_936],
        };
        all[0].identity = base.clone();
        for (other, part) in [
            (
                Identity {
                    architecture: "llama".into(),
                    ..base.clone()
                },
                "qwen2 and llama",
            ),
            (
                Identity {
                    shape: [28, 1536, 8960, 151_936],
                    ..base.clone()
                },
                "dimensions",
            ),
            (
                Identity {
                    name: "Qwen2.5 Coder 0.5B".into(),
                    ..base.clone()
                },
                "Coder",
            ),
        ] {
            all[1].identity = other;
            let warning = warning(&all).unwrap();
            assert!(
                warning.contains("q8 and q4") && warning.contains(part),
                "{warning}"
            );
        }
        all[1].identity = base;
        assert_eq!(warning(&all), None);
    }

    #[test]
    fn a_whole_context_goes_before_a_better_type() {
        let mut small_context = candidate("q8", 1000, 0.001, 10.0);
        small_context.is_whole = false;
        let all = [small_context, candidate("q4", 500, 0.05, 18.0)];
        assert_eq!(chosen(&all, None), "q4");
    }

    #[test]
    fn where_none_fits_the_reason_is_the_smallest_s() {
        let why = choose(&[too_large("a", 2), too_large("b", 1)], None)
            .unwrap_err()
            .why;
        assert!(why.contains("the model needs"), "{why}");
        let mut one = candidate("q4", 500, 0.05, 18.0);
        one.loss = None;
        let choice = choose(&[one, too_large("a", 2)], None).unwrap();
        assert_eq!(choice.why, "the only one that fits");
    }
}
