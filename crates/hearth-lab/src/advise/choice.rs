//! The choice between files that fit into memory.

use hearth_proto::units::Bytes;

use super::Candidate;
use crate::model::name;

/// A divergence below this is negligible, in nats: it makes a text less probable by about
/// one per cent per token, as a perplexity that is one per cent higher does.
const NEGLIGIBLE: f64 = 0.01;

/// The selected file, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index of the file.
    pub index: usize,
    pub reason: String,
}

/// Why no file was selected.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum NoChoice {
    /// There is no memory for any of them.
    #[error("none of the files fits; the smallest: {smallest}")]
    OutOfMemory {
        /// Why the smallest file does not fit.
        smallest: String,
    },
    /// None of those that fit is fast enough.
    #[error(
        "none of the files that fit is fast enough: the fastest generates {best:.1} tokens/s; \
         lower --min-speed, or use a smaller model"
    )]
    TooSlow {
        /// The best speed.
        best: f64,
    },
}

/// Selects, among the files that fit, the smallest whose divergence is negligible;
/// otherwise the one with the least divergence. Files that fit with the whole context are
/// preferred.
pub fn choose(candidates: &[Candidate], min_speed: Option<u32>) -> Result<Choice, NoChoice> {
    let fitting: Vec<usize> = (0..candidates.len())
        .filter(|n| candidates[*n].fits)
        .collect();
    if fitting.is_empty() {
        let smallest = candidates.iter().min_by_key(|c| c.file_bytes);
        return Err(NoChoice::OutOfMemory {
            smallest: smallest.map(|c| c.note.clone()).unwrap_or_default(),
        });
    }
    let count = fitting.len();
    let mut left = fast_enough(candidates, fitting, min_speed)?;
    if left.iter().any(|n| candidates[*n].has_whole_context) {
        left.retain(|n| candidates[*n].has_whole_context);
    }
    let loss = |n: usize| candidates[n].divergence.unwrap_or(f64::INFINITY);
    let negligible = left.iter().copied().filter(|n| loss(*n) < NEGLIGIBLE);
    if let Some(index) = negligible.min_by_key(|n| candidates[*n].file_bytes) {
        let reason = format!(
            "of {count} that fit, the smallest with a negligible divergence: {} nats, less than \
             {NEGLIGIBLE}{}",
            divergence(&candidates[index]),
            comparison(candidates, index, &left)
        );
        return Ok(Choice { index, reason });
    }
    let best = left.iter().copied().min_by(|a, b| {
        let larger_first = candidates[*b].file_bytes.cmp(&candidates[*a].file_bytes);
        loss(*a).total_cmp(&loss(*b)).then(larger_first)
    });
    let index = best.unwrap_or(left[0]);
    let reason = match candidates[index].divergence {
        Some(_) => format!(
            "of {count} that fit, the one with the least divergence: {} nats{}",
            divergence(&candidates[index]),
            comparison(candidates, index, &left)
        ),
        None if count == 1 => "the only one that fits".to_owned(),
        None => format!("of {count} that fit, the largest: there are no figures to compare"),
    };
    Ok(Choice { index, reason })
}

/// Those whose speed suffices or is unknown; at least one.
fn fast_enough(
    candidates: &[Candidate],
    fitting: Vec<usize>,
    min_speed: Option<u32>,
) -> Result<Vec<usize>, NoChoice> {
    let speed = |n: usize| candidates[n].decode_tokens_per_s;
    let best = fitting.iter().filter_map(|n| speed(*n));
    let best = best.fold(0.0, f64::max);
    let suffices = |n: &usize| match (min_speed, speed(*n)) {
        (Some(least), Some(speed)) => speed >= f64::from(least),
        _ => true,
    };
    let fast: Vec<usize> = fitting.into_iter().filter(suffices).collect();
    if fast.is_empty() {
        return Err(NoChoice::TooSlow { best });
    }
    Ok(fast)
}

fn divergence(candidate: &Candidate) -> String {
    let text = candidate.divergence_text();
    text.unwrap_or_else(|| "unknown".to_owned())
}

/// Compares with the next larger file: the accuracy given up and the speed gained.
fn comparison(candidates: &[Candidate], index: usize, left: &[usize]) -> String {
    let chosen = &candidates[index];
    let larger = left.iter().map(|n| &candidates[*n]);
    let larger = larger
        .filter(|c| c.file_bytes > chosen.file_bytes)
        .min_by_key(|c| c.file_bytes);
    let Some(larger) = larger else {
        return String::new();
    };
    let speed = match (chosen.decode_tokens_per_s, larger.decode_tokens_per_s) {
        (Some(a), Some(b)) => format!(" and {a:.1} against {b:.1} tokens/s"),
        _ => String::new(),
    };
    format!(
        "; the next larger one, {}, has {} (this one {} against {}{speed})",
        name(&larger.path),
        divergence(larger),
        Bytes(chosen.file_bytes),
        Bytes(larger.file_bytes),
    )
}
