//! `prewarm`: computes the beginning of conversations ahead of time.

use serde_json::json;
use zbus::Variant;

use crate::args::{Global, PrewarmArgs};
use crate::bus::{Bus, Options};
use crate::error::Result;
use crate::{input, output};

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
    let bus = Bus::connect(global).await?;
    bus.service.prewarm(&system, &options).await?;
    if global.json {
        return output::json(&json!({ "queued": true }));
    }
    output::note("queued: it is computed when nothing else is to do");
    Ok(())
}
