//! `rerank`: sorts lines of text by how well they match a query.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use zbus::Variant;

use crate::bus::{self, Options};
use crate::error::Result;
use crate::global::Global;
use crate::{input, output};

#[derive(Debug, Args)]
pub struct RerankArgs {
    /// What the documents are compared with.
    pub query: String,
    /// File with the documents, one in each line; `-` reads standard input.
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// Model to use, a reranker; the loaded or default model if omitted.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Print only the N best documents.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
}

/// `hearthctl rerank`.
pub async fn run(global: &Global, args: &RerankArgs) -> Result {
    let text = input::file(&args.file, "list of documents")?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let documents: Vec<&str> = lines.collect();
    let mut options = Options::new();
    if let Some(model) = &args.model {
        options.insert("model", Variant::from(model.as_str()));
    }
    if let Some(top) = args.top {
        options.insert("top_n", Variant::from(top));
    }
    let bus = bus::connect(global).await?;
    let ranks = bus
        .service
        .rerank(&args.query, &documents, &options)
        .await?;
    let found = ranks.into_iter().filter_map(|(at, score)| {
        let document = documents.get(usize::try_from(at).ok()?)?;
        Some((at, score, *document))
    });
    let found: Vec<(u32, f64, &str)> = found.collect();
    if global.is_json() {
        let results = found.iter().map(
            |(at, score, document)| json!({ "index": at, "score": score, "document": document }),
        );
        return output::json(&json!({ "results": results.collect::<Vec<_>>() }));
    }
    found
        .iter()
        .try_for_each(|(_, score, document)| output::line(&format!("{score:.4}\t{document}")))
}
