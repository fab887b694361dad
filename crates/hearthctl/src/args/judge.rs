//! `evaluate`, `advise`, `quantize`, `imatrix`.

use std::path::PathBuf;

use clap::Args;
use hearth_gguf::{FILE_TYPES, FileType};
use hearth_lab::evaluate::{CONTEXT, RUNS};

/// Least similarity (Jaro-Winkler, 0 to 1) at which a wrong type name gets a suggestion.
const ALIKE: f64 = 0.7;

#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// GGUF files, or names of installed models.
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<String>,
    /// Text for the perplexity; a short one included in hearthctl if omitted.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Model that the others are compared with; the largest file if omitted.
    #[arg(long, value_name = "MODEL")]
    pub reference: Option<String>,
    /// Questions to answer, one JSON object per line: `id`, `messages`, and `accept`
    /// (texts of which the answer must contain one), `reject` (texts that it must not
    /// contain), or `accept_call`.
    #[arg(long, value_name = "FILE")]
    pub questions: Option<PathBuf>,
    /// Number of tokens per chunk of the text.
    #[arg(long, value_name = "N", default_value_t = CONTEXT)]
    #[arg(value_parser = clap::value_parser!(u32).range(32..=32768))]
    pub context: u32,
    /// Number of compute threads; all processors if omitted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Number of speed measurements per model, taken in turn; the medians are reported. 0
    /// measures no speed.
    #[arg(long, value_name = "N", default_value_t = RUNS)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    pub runs: u32,
    /// Write a plot of size against loss to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AdviseArgs {
    /// GGUF files of one model in several types, or names of installed models.
    #[arg(value_name = "MODEL", required_unless_present = "from")]
    pub models: Vec<String>,
    /// Read the figures from this file, written by `evaluate --json`, and measure
    /// nothing.
    #[arg(long, value_name = "FILE", conflicts_with = "models")]
    pub from: Option<PathBuf>,
    /// Context in tokens; the training context of the model, at most 4096, if omitted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Memory limit in MiB; the memory that is available now if omitted.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    pub memory: Option<u64>,
    /// Exclude files that generate fewer tokens per second than this.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub min_speed: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = types_help())]
pub struct QuantizeArgs {
    /// File to read, in F16, BF16 or F32; or the name of an installed model.
    pub model: String,
    /// File to write; an existing file is not replaced.
    pub out: PathBuf,
    /// Type of the weights; see below.
    #[arg(long = "type", value_name = "TYPE", value_parser = file_type)]
    pub file_type: &'static FileType,
    /// Importance matrix, as written by `hearthctl imatrix`.
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// Number of compute threads; all processors if omitted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Allow a source that is already quantized, which loses accuracy twice.
    #[arg(long)]
    pub allow_requantize: bool,
}

#[derive(Debug, Args)]
pub struct ImatrixArgs {
    /// A GGUF file in the most precise type available, or the name of an installed model.
    pub model: String,
    /// A text similar to what the model will read and write; some hundred kilobytes.
    pub text: PathBuf,
    /// File to write; an existing file is not replaced.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Number of tokens per chunk of the text.
    #[arg(long, value_name = "N", default_value_t = CONTEXT)]
    #[arg(value_parser = clap::value_parser!(u32).range(32..=32768))]
    pub context: u32,
    /// Number of compute threads; all processors if omitted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
}

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
