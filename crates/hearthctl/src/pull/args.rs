//! Options of `pull`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct PullArgs {
    /// What to download: a name from the catalogue (`hearthctl models --fit`),
    /// `hf:ORG/REPO[:QUANT]` or `hf:ORG/REPO:FILE.gguf` from Hugging Face,
    /// `ollama:NAME[:TAG]` or `ollama:HOST/NAMESPACE/NAME[:TAG]` from an Ollama registry,
    /// or the HTTP(S) URL of a GGUF file.
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Name of the model; the name of the file or in the registry if omitted.
    #[arg(long)]
    pub name: Option<String>,
    /// Write the model to this file instead of importing it, and its projector beside it.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub output: Option<PathBuf>,
    /// Leave out the projector (mmproj file) of a model that takes pictures or sounds.
    #[arg(long)]
    pub no_projector: bool,
    /// Expected SHA-256 of the file; only for a URL.
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,
    /// Close a connection after this many seconds without data, and retry.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub timeout: u32,
    /// Retry this many times, with increasing delays. The count starts again whenever
    /// data was received.
    #[arg(long, value_name = "N", default_value = "6")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retries: u32,
}

fn sha256(text: &str) -> Result<String, String> {
    let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if good {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a SHA-256 has 64 hexadecimal digits".to_owned())
    }
}
