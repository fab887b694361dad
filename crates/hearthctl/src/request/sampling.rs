//! Sampling options.

use clap::Args;
use serde_json::{Map, Value};

/// Sampling options. For those that are omitted, the model file or the service
/// has defaults.
#[derive(Clone, Debug, Default, Args)]
pub struct SamplingArgs {
    /// Randomness of the answer; 0 always selects the most probable token.
    #[arg(long, value_name = "T", value_parser = temperature)]
    pub temperature: Option<f64>,
    /// Sample from the K most probable tokens only; 0 means all.
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Sample from the most probable tokens whose probabilities add up to P.
    #[arg(long, value_name = "P", value_parser = share)]
    pub top_p: Option<f64>,
    /// Exclude tokens less probable than P times the most probable one.
    #[arg(long, value_name = "P", value_parser = share)]
    pub min_p: Option<f64>,
    /// Make recently used tokens less probable; 1 disables the penalty.
    #[arg(long, value_name = "X", value_parser = penalty)]
    pub repeat_penalty: Option<f64>,
    /// Seed of the random numbers, to get the same answer again.
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
}

impl SamplingArgs {
    /// Adds the options that were given to a request.
    pub fn add_to(&self, request: &mut Map<String, Value>) {
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                request.insert(name.into(), value);
            }
        };
        add("temperature", self.temperature.map(Value::from));
        add("top_k", self.top_k.map(Value::from));
        add("top_p", self.top_p.map(Value::from));
        add("min_p", self.min_p.map(Value::from));
        add("repeat_penalty", self.repeat_penalty.map(Value::from));
        add("seed", self.seed.map(Value::from));
    }
}

/// JSON has no infinity, and a negative temperature has no meaning.
fn temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if t.is_finite() && t >= 0.0 => Ok(t),
        _ => Err("a temperature is a number of at least 0".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("a number from 0 to 1 is required".to_owned()),
    }
}

fn penalty(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (0.01..=10.0).contains(&x) => Ok(x),
        _ => Err("a penalty is a number from 0.01 to 10; 1 is off".to_owned()),
    }
}
