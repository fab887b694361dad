//! `prewarm`: computes the beginning of conversations ahead of time.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use zbus::Variant;

use crate::bus::{self, Options};
use crate::error::Result;
use crate::global::Global;
use crate::request::{json_file, lora};
use crate::{input, output};

#[derive(Debug, Args)]
pub struct PrewarmArgs {
    /// File with the system prompt; `-` reads standard input.
    pub file: PathBuf,
    /// Model to use; the loaded or default model if omitted.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Tools that the conversations will offer: a JSON list in OpenAI's format.
    #[arg(long, value_name = "FILE", value_parser = json_file)]
    pub tools: Option<Value>,
    /// Adapter that the conversations will apply, at this scale (1 if omitted); repeat for
    /// several.
    #[arg(long, value_name = "NAME[=SCALE]", value_parser = lora)]
    pub lora: Vec<(String, f32)>,
}

/// `hearthctl prewarm`.
pub async fn run(global: &Global, args: &PrewarmArgs) -> Result {
    let system = input::file(&args.file, "system prompt")?;
    let tools = args.tools.as_ref().map(ToString::to_string);
    let mut options = Options::new();
    if let Some(model) = &args.model {
        options.insert("model", Variant::from(model.as_str()));
    }
    if let Some(tools) = &tools {
        options.insert("tools", Variant::from(tools.as_str()));
    }
    if !args.lora.is_empty() {
        let adapters = args.lora.iter();
        let adapters = adapters.map(|(name, scale)| (name.as_str(), f64::from(*scale)));
        let adapters: HashMap<&str, f64> = adapters.collect();
        options.insert("lora", Variant::from(adapters));
    }
    let bus = bus::connect(global).await?;
    bus.service.prewarm(&system, &options).await?;
    if global.is_json() {
        return output::json(&json!({ "queued": true }));
    }
    output::note("queued; it is computed when the service is idle");
    Ok(())
}
