//! `models`, `pull` and `import`.

use std::path::PathBuf;

use clap::Args;

/// `models`.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Show which models fit this board, and with which context: those that are installed
    /// and those of the catalogue, which `hearthctl pull NAME` fetches. No service is
    /// needed.
    #[arg(long)]
    pub fit: bool,
    /// With --fit: memory to fit into, in MiB; what is free here and now if left out.
    #[arg(long, value_name = "MIB", requires = "fit")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..1 << 24))]
    pub memory: Option<u64>,
}

/// `pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// What to fetch: a name of the catalogue (`hearthctl models --fit`), `hf:ORG/REPO[:QUANT]` or `hf:ORG/REPO:FILE.gguf` from Hugging Face,
    /// `ollama:NAME[:TAG]` or `ollama:HOST/NAMESPACE/NAME[:TAG]` from a registry of Ollama's
    /// kind, or the http(s) address of a GGUF file.
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Name of the model; the file's or the registry's if left out.
    #[arg(long)]
    pub name: Option<String>,
    /// Write the model into this file instead of giving it to the service.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub output: Option<PathBuf>,
    /// The SHA-256 that the file at a plain address must have.
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,
    /// Give a connection up that is silent for so many seconds, and try again.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub timeout: u32,
    /// Try so many times again, with longer and longer pauses; all of them count anew
    /// when something came through.
    #[arg(long, value_name = "N", default_value = "6")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retries: u32,
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A GGUF file (of a split one the first part), a .llamafile, Ollama's store
    /// (~/.ollama/models or /usr/share/ollama/.ollama/models), a Hugging Face cache
    /// (~/.cache/huggingface/hub) or any folder with GGUF files; opened as you, so the
    /// service needs no access to it.
    pub path: PathBuf,
    /// Which model of a folder; where it has several and none is given, they are listed.
    pub model: Option<String>,
    /// Name of the model; the file's name without `.gguf` if left out.
    #[arg(long)]
    pub name: Option<String>,
}

fn sha256(text: &str) -> Result<String, String> {
    let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if good {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a SHA-256 has 64 hexadecimal digits".to_owned())
    }
}
