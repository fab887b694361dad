//! Options of requests.

use std::fs;

use clap::Args;
use serde_json::Value;

use super::SamplingArgs;

/// Values of `--priority`, highest first.
pub const PRIORITIES: [&str; 3] = ["interactive", "normal", "background"];

/// Options of a request. Only those that are given are sent; the service has defaults for
/// the rest.
#[derive(Clone, Debug, Default, Args)]
pub struct RequestArgs {
    /// System prompt: instructions that precede the conversation.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Model to use; the loaded or default model if omitted.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Apply this adapter of the model, at this scale (1 if omitted); repeat for several.
    #[arg(long, value_name = "NAME[=SCALE]", value_parser = lora)]
    pub lora: Vec<(String, f32)>,
    /// Maximum number of tokens in an answer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Offer the tools in this file: a JSON list in OpenAI's format. Tool calls are
    /// printed, not run.
    #[arg(long, value_name = "FILE", value_parser = json_file)]
    pub tools: Option<Value>,
    /// Whether tools may be called, if the request says so.
    #[arg(skip)]
    pub tool_choice: Option<&'static str>,
    /// Answer with JSON that is valid against the JSON schema in this file.
    #[arg(long, value_name = "FILE", value_parser = json_file, conflicts_with = "regex")]
    pub schema: Option<Value>,
    /// Answer with a text that this regular expression matches in full.
    #[arg(long, value_name = "RE")]
    pub regex: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct QueueArgs {
    /// Cancel the request if it has not finished after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub deadline: Option<u32>,
}

/// An adapter and its scale.
pub fn lora(text: &str) -> Result<(String, f32), String> {
    let (name, scale) = match text.rsplit_once('=') {
        None => (text, 1.0),
        Some((name, scale)) => match scale.parse::<f32>() {
            Ok(scale) if scale.is_finite() => (name, scale),
            _ => return Err(format!("{scale:?} is not a number")),
        },
    };
    Ok((name.to_owned(), scale))
}

/// Reads the file while parsing, so that an error in it is a usage error.
pub fn json_file(path: &str) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("{path} is not valid JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_has_a_scale() {
        let adapter = |name: &str, scale| Ok((name.to_owned(), scale));
        assert_eq!(lora("tone"), adapter("tone", 1.0));
        assert_eq!(lora("tone=0.5"), adapter("tone", 0.5));
        assert_eq!(lora("tone=-1"), adapter("tone", -1.0));
        assert!(lora("tone=much").is_err() && lora("tone=inf").is_err());
    }
}
