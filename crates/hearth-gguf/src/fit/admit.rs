//! Settings that fit the memory, or why there are none.

use std::fmt;

use hearth_proto::KvType;
use hearth_proto::units::Bytes;

use super::budget::Budget;
use super::estimate::{Estimate, estimate};
use super::settings::{CONTEXT_SMALL, Settings};
use super::sizes::usable_kv_type;
use crate::Header;

/// Settings that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The settings to load the model with.
    pub settings: Settings,
    /// The memory it takes with these settings.
    pub estimate: Estimate,
    /// What was reduced, and why; empty if nothing was.
    pub note: String,
}

/// A model does not fit, however small its context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NoFit {
    /// The smallest settings that were tried.
    pub settings: Settings,
    /// The memory they take.
    pub estimate: Estimate,
    /// The memory available.
    pub budget: Budget,
    /// What would fit instead.
    pub would_fit: WouldFit,
}

/// What would fit where a model does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WouldFit {
    /// A smaller quantization of the model, with its size.
    Quantization(&'static str, Bytes),
    /// Weights of at most this many bytes, in addition to everything else.
    Weights(Bytes),
}

/// Finds settings that fit: as wanted; else with a smaller prefix cache; else with a
/// smaller context, down to [`CONTEXT_SMALL`]; else with eight-bit keys as well.
///
/// # Errors
/// [`NoFit`], with the estimate and the budget.
pub fn fit(header: &Header, wanted: &Settings, budget: Budget) -> Result<Fitted, NoFit> {
    let usable = budget.usable().0;
    let total = |settings: &Settings| estimate(header, settings).total.0;
    let wanted = Settings {
        kv_type: usable_kv_type(header, wanted.kv_type),
        ..*wanted
    };
    let mut tried = Settings { kept: 0, ..wanted };
    for kv_type in [wanted.kv_type, usable_kv_type(header, KvType::Q8_0)] {
        tried.kv_type = kv_type;
        let with = |context| Settings { context, ..tried };
        let least = smallest_context(header, wanted.context);
        let context = largest(least, wanted.context, |n| total(&with(n)) <= usable);
        let Some(context) = context else { continue };
        tried.context = context;
        // The prefix cache gets at most half of the remaining memory.
        let before = total(&tried);
        let most = before + (usable - before) / 2;
        let with = |kept| Settings { kept, ..tried };
        tried.kept = largest(0, wanted.kept, |n| n == 0 || total(&with(n)) <= most).unwrap_or(0);
        let estimate = estimate(header, &tried);
        return Ok(Fitted {
            note: note(&wanted, &tried, budget),
            settings: tried,
            estimate,
        });
    }
    tried.context = smallest_context(header, wanted.context);
    let estimate = estimate(header, &tried);
    let rest = estimate.total.0 - estimate.weights.0;
    let weights_max = Bytes(usable.saturating_sub(rest));
    Err(NoFit {
        settings: tried,
        estimate,
        budget,
        would_fit: smaller(header, estimate.weights, weights_max)
            .map_or(WouldFit::Weights(weights_max), |(name, size)| {
                WouldFit::Quantization(name, size)
            }),
    })
}

/// The smallest context that may be chosen, in tokens.
fn smallest_context(header: &Header, wanted: u32) -> u32 {
    let own = match header.context_train {
        0 => u32::MAX,
        own => own,
    };
    CONTEXT_SMALL.min(own).min(wanted)
}

/// The largest number from `least` to `most` that fits, above `least` in steps of 256,
/// the cells that llama.cpp rounds up to. `fits` must be monotonic: true up to some number.
fn largest(least: u32, most: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    if fits(most) {
        return Some(most);
    }
    if !fits(least) {
        return None;
    }
    let at = |step: u32| {
        let n = (least / 256).saturating_add(step).saturating_mul(256);
        n.clamp(least, most)
    };
    // `low` fits, `high` does not.
    let (mut low, mut high) = (0, most / 256 + 1 - least / 256);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(at(middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(at(low))
}

/// Bits per weight of common quantizations, over whole models (llama.cpp's
/// tools/quantize/README.md, Llama 3.1 8B).
const QUANTIZATIONS: [(&str, u64); 6] = [
    ("Q8_0", 8_501),
    ("Q6_K", 6_563),
    ("Q5_K_M", 5_701),
    ("Q4_K_M", 4_894),
    ("Q4_0", 4_664),
    ("Q3_K_M", 4_002),
];

/// The largest quantization that is smaller than the model's current one and fits.
fn smaller(header: &Header, is: Bytes, max: Bytes) -> Option<(&'static str, Bytes)> {
    let sizes = QUANTIZATIONS.iter().map(|(name, millibits)| {
        let bits = u128::from(header.parameters) * u128::from(*millibits) / 1000;
        (*name, Bytes(u64::try_from(bits / 8).unwrap_or(u64::MAX)))
    });
    let mut fitting = sizes.filter(|(_, size)| *size <= max && *size < is);
    fitting.next().filter(|_| header.parameters > 0)
}

fn note(wanted: &Settings, fitted: &Settings, budget: Budget) -> String {
    let mut changes = Vec::new();
    if fitted.context < wanted.context {
        let (now, before) = (fitted.context, wanted.context);
        changes.push(format!("the context has {now} tokens instead of {before}"));
    }
    if fitted.kv_type != wanted.kv_type {
        let (now, before) = (fitted.kv_type.as_str(), wanted.kv_type.as_str());
        changes.push(format!("the keys are {now} instead of {before}"));
    }
    if changes.is_empty() {
        return String::new();
    }
    format!(
        "{}: {} are free and {} stay reserved",
        changes.join(" and "),
        budget.free,
        budget.reserved
    )
}

impl fmt::Display for NoFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &self.estimate;
        write!(
            f,
            "the model needs {} (weights {}, KV cache {} for {} tokens, compute {}, other {}); \
             {} are free and {} stay reserved: ",
            e.total,
            e.weights,
            e.kv,
            self.settings.context,
            e.compute,
            e.other,
            self.budget.free,
            self.budget.reserved
        )?;
        match self.would_fit {
            WouldFit::Quantization(name, size) => {
                write!(f, "a {name} of it ({size}) would fit")
            }
            WouldFit::Weights(Bytes(0)) => f.write_str("free memory, or use a board with more"),
            WouldFit::Weights(most) => write!(f, "a model of {most} or less would fit"),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
