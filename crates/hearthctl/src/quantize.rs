//! `quantize` and `imatrix`: a smaller file of the same model.

use std::path::{Path, PathBuf};

use clap::Args;
use hearth_gguf::{FILE_TYPES, FileType};
use hearth_lab::evaluate::CONTEXT;
use hearth_lab::model;
use hearth_lab::offline::threads;
use hearth_lab::quantize::{self, Quantize, Quantized};
use hearth_proto::ImatrixJob;
use hearth_proto::units::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::atomic_file::AtomicFile;
use crate::error::Result;
use crate::progress::Progress;
use crate::table::Table;
use crate::{fit, output};

/// With fewer chunks of text, the statistics of rarely used columns are not reliable.
const CHUNKS_FEW: u64 = 20;

/// Least similarity (Jaro-Winkler, 0 to 1) at which a wrong type name gets a suggestion.
const SIMILARITY_MIN: f64 = 0.7;

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

/// What `quantize --json` prints.
#[derive(Serialize)]
struct Document<'a> {
    path: &'a Path,
    #[serde(flatten)]
    result: &'a Quantized,
}

/// `hearthctl quantize`.
pub async fn run(as_json: bool, args: &QuantizeArgs) -> Result {
    let model = fit::find(&args.model)?;
    let file = AtomicFile::begin(&args.out)?;
    let progress = Progress::new("", as_json);
    let quantize = Quantize {
        model: model.clone(),
        out: file.path().to_owned(),
        file_type: args.file_type,
        imatrix: args.imatrix.clone(),
        threads: args.threads.unwrap_or_else(threads),
        allow_requantize: args.allow_requantize,
    };
    let result = quantize.run(&progress).await?;
    file.finish()?;
    drop(progress);
    if as_json {
        let document = Document {
            path: &args.out,
            result: &result,
        };
        return output::json(&json!(document));
    }
    let mut table = Table::new(&["FILE", "SIZE", "BITS/WEIGHT"], &[1, 2]);
    for (path, bytes, bits) in [
        (&model, result.bytes_before, result.bits_per_weight_before),
        (&args.out, result.bytes_after, result.bits_per_weight_after),
    ] {
        table.row(vec![
            path.display().to_string(),
            Bytes(bytes).to_string(),
            format!("{bits:.2}"),
        ]);
    }
    table.print()?;
    if result.fallbacks > 0 {
        output::note(&format!(
            "{} of {} tensors are stored in a larger type, because their rows are not a \
             multiple of the type's blocks",
            result.fallbacks, result.tensors
        ));
    }
    if !result.ran {
        output::note("the file was read completely, but not run: there is not enough memory");
    }
    Ok(())
}

/// `hearthctl imatrix`.
pub async fn imatrix(as_json: bool, args: &ImatrixArgs) -> Result {
    let model = fit::find(&args.model)?;
    let text = model::text(&args.text)?;
    let file = AtomicFile::begin(&args.output)?;
    let progress = Progress::new("", as_json);
    let job = ImatrixJob {
        model,
        text,
        name: file_name(&args.text),
        out: file.path().to_owned(),
        context: args.context,
        threads: args.threads.unwrap_or_else(threads),
    };
    let result = quantize::imatrix(job, &progress).await?;
    file.finish()?;
    drop(progress);
    if as_json {
        return output::json(&json!({
            "path": args.output,
            "matrices": result.matrices,
            "chunks": result.chunks,
            "chunk_tokens": result.chunk_tokens,
        }));
    }
    output::line(&format!(
        "{}: {} matrices, {} chunks of {} tokens",
        args.output.display(),
        result.matrices,
        result.chunks,
        result.chunk_tokens
    ))?;
    if result.chunks < CHUNKS_FEW {
        output::note("the text is short: some hundred chunks are usual");
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn file_type(name: &str) -> Result<&'static FileType, String> {
    FileType::named(name).ok_or_else(|| {
        let wanted = name.to_ascii_uppercase();
        let similarity = |t: &&FileType| strsim::jaro_winkler(&wanted, t.name);
        let nearest = FILE_TYPES
            .iter()
            .max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        let hint = match nearest {
            Some(t) if similarity(&t) >= SIMILARITY_MIN => format!("did you mean {}? ", t.name),
            _ => String::new(),
        };
        let names: Vec<&str> = FILE_TYPES.iter().map(|t| t.name).collect();
        format!("{hint}The types are {}", names.join(", "))
    })
}

fn types_help() -> String {
    let line = |t: &FileType| format!("\n  {:<10} {}", t.name, t.about);
    let lines: String = FILE_TYPES.iter().map(line).collect();
    format!("Types, with the bits per weight of most matrices:{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_wrong_type_suggests_the_nearest() {
        assert_eq!(file_type("q4_k_m").map(|t| t.number), Ok(15));
        let why = file_type("Q4KM").unwrap_err();
        assert!(why.starts_with("did you mean Q4_K_M?"), "{why}");
        assert!(why.contains("IQ4_XS"), "{why}");
        assert!(
            file_type("nonsense")
                .unwrap_err()
                .starts_with("The types are")
        );
    }
}
