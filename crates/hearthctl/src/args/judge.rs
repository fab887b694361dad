//! `evaluate`, `advise`, `quantize`, `imatrix`.

use std::path::PathBuf;

use clap::Args;
use hearth_gguf::{FILE_TYPES, FileType};

/// Tokens of a piece of a text, as llama.cpp's tools have it.
const CONTEXT: u32 = 512;
/// Runs of which a speed is the median.
const RUNS: u32 = 3;

/// How like a wrong name must be to be meant, from 0 to 1.
const ALIKE: f64 = 0.7;

/// `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// GGUF files, or names of installed models.
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<String>,
    /// The text for the perplexity; a small one that comes with hearthctl if left
    /// out.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// What the others are compared with; the largest file if left out.
    #[arg(long, value_name = "MODEL")]
    pub reference: Option<String>,
    /// Questions that they are to answer, one JSON object a line: `id`, `messages`, and
    /// `accept` (texts of which one must be in the answer), `reject` (none may be), or
    /// `accept_call`.
    #[arg(long, value_name = "FILE")]
    pub questions: Option<PathBuf>,
    /// Tokens of a piece of the text.
    #[arg(long, value_name = "N", default_value_t = CONTEXT)]
    #[arg(value_parser = clap::value_parser!(u32).range(32..=32768))]
    pub context: u32,
    /// Compute threads; all processors if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// How often the speed of each is measured, in turn; the medians count. 0: not at all.
    #[arg(long, value_name = "N", default_value_t = RUNS)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    pub runs: u32,
    /// Draw size against loss into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

impl EvaluateArgs {
    /// Of these models, everything else as usual.
    pub fn of(models: Vec<String>) -> Self {
        Self {
            models,
            text: None,
            reference: None,
            questions: None,
            context: CONTEXT,
            threads: None,
            runs: RUNS,
            plot: None,
        }
    }
}

/// `advise`.
#[derive(Debug, Args)]
pub struct AdviseArgs {
    /// GGUF files of one model in several types, or names of installed models.
    #[arg(value_name = "MODEL", required_unless_present = "from")]
    pub models: Vec<String>,
    /// Take the figures from this file, which `evaluate --json` wrote, and measure nothing.
    #[arg(long, value_name = "FILE", conflicts_with = "models")]
    pub from: Option<PathBuf>,
    /// Context in tokens; what the model was trained for, at most 4096, if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Memory to fit into, in MiB; what is free here and now if left out.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    pub memory: Option<u64>,
    /// Slower ones are out: tokens a second of an answer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub min_speed: Option<u32>,
}

/// `quantize`.
#[derive(Debug, Args)]
#[command(after_help = types_help())]
pub struct QuantizeArgs {
    /// The file to read, in F16, BF16 or F32; or the name of an installed model.
    pub model: String,
    /// The file to write; one that is there is left as it is.
    pub out: PathBuf,
    /// How to store the weights; see below.
    #[arg(long = "type", value_name = "TYPE", value_parser = file_type)]
    pub file_type: &'static FileType,
    /// What matters in each matrix, as `hearthctl imatrix` writes it.
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// Compute threads; all processors if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Quantize what is quantized already, which loses twice.
    #[arg(long)]
    pub allow_requantize: bool,
}

/// `imatrix`.
#[derive(Debug, Args)]
pub struct ImatrixArgs {
    /// A GGUF file in the best type there is, or the name of an installed model.
    pub model: String,
    /// A text like those that the model will read and write; some hundred kilobytes.
    pub text: PathBuf,
    /// The file to write; one that is there is left as it is.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Tokens of a piece of the text.
    #[arg(long, value_name = "N", default_value_t = CONTEXT)]
    #[arg(value_parser = clap::value_parser!(u32).range(32..=32768))]
    pub context: u32,
    /// Compute threads; all processors if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
}

/// Reads a type, for the command line.
fn file_type(name: &str) -> Result<&'static FileType, String> {
    FileType::named(name).ok_or_else(|| {
        let wanted = name.to_ascii_uppercase();
        let alike = |t: &&FileType| strsim::jaro_winkler(&wanted, t.name);
        let nearest = FILE_TYPES
            .iter()
            .max_by(|a, b| alike(a).total_cmp(&alike(b)));
        let hint = match nearest {
            Some(t) if alike(&t) >= ALIKE => format!("did you mean {}? ", t.name),
            _ => String::new(),
        };
        let names: Vec<&str> = FILE_TYPES.iter().map(|t| t.name).collect();
        format!("{hint}There are {}", names.join(", "))
    })
}

/// The types, for the help.
fn types_help() -> String {
    let line = |t: &FileType| format!("\n  {:<10} {}", t.name, t.about);
    let lines: String = FILE_TYPES.iter().map(line).collect();
    format!("Types, with the bits a weight of most matrices:{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_is_answered_with_the_nearest() {
        assert_eq!(file_type("q4_k_m").map(|t| t.number), Ok(15));
        let why = file_type("Q4KM").unwrap_err();
        assert!(why.starts_with("did you mean Q4_K_M?"), "{why}");
        assert!(why.contains("IQ4_XS"), "{why}");
        assert!(file_type("nonsense").unwrap_err().starts_with("There are"));
    }
}
