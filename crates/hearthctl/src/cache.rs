//! `cache`: manages the prompt cache on disk.

use clap::Subcommand;
use hearth_proto::units::Bytes;
use serde_json::{Value, json};

use crate::bus::{Bus, Dict, Options};
use crate::error::{CtlError, Result};
use crate::output;
use crate::progress::Progress;
use crate::table::Table;
use crate::value::{dict_to_json, flag, number, text};

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum CacheCommand {
    /// List the cached prompts.
    List,
    /// Read each cached prompt in full and verify its checksums.
    Verify,
    /// Delete your cached prompts, in memory and on disk; as root, all cached prompts.
    Clear,
}

/// `hearthctl cache`.
pub async fn run(bus: &Bus, json: bool, command: &CacheCommand) -> Result {
    match command {
        CacheCommand::List => list(bus, json).await,
        CacheCommand::Clear => clear(bus, json).await,
        CacheCommand::Verify => verify(bus, json).await,
    }
}

async fn list(bus: &Bus, json: bool) -> Result {
    let prompts = bus.prompts.list().await?;
    if json {
        return output::json(&prompts.iter().map(dict_to_json).collect::<Value>());
    }
    if prompts.is_empty() {
        output::note("no prompts are cached on disk");
        return Ok(());
    }
    show(&prompts)
}

async fn verify(bus: &Bus, json: bool) -> Result {
    let progress = Progress::new("verifying the cached prompts", json);
    let prompts = bus.prompts.verify().await?;
    drop(progress);
    let damaged = prompts.iter().filter(|p| !text(p, "problem").is_empty());
    let damaged = damaged.count();
    if json {
        output::json(&prompts.iter().map(dict_to_json).collect::<Value>())?;
    } else {
        if !prompts.is_empty() {
            show(&prompts)?;
        }
        output::note(&format!(
            "{} cached prompts, {damaged} damaged",
            prompts.len()
        ));
    }
    if damaged > 0 {
        let message = format!(
            "{damaged} cached prompts are damaged; they are deleted when their model is next \
             loaded, and computed again"
        );
        let kind = "Damaged";
        return Err(CtlError::Result { kind, message });
    }
    Ok(())
}

async fn clear(bus: &Bus, json: bool) -> Result {
    let cleared = bus.prompts.clear(&Options::new()).await?;
    if json {
        return output::json(&json!({ "cleared": cleared }));
    }
    output::note(&format!("{cleared} cached prompts deleted"));
    Ok(())
}

fn show(prompts: &[Dict]) -> Result {
    let mut table = Table::new(&["MODEL", "OWNER", "TOKENS", "SIZE", "NOTES"], &[2, 3]);
    for prompt in prompts {
        let owner = if flag(prompt, "shared") {
            "shared".to_owned()
        } else {
            number(prompt, "uid").to_string()
        };
        table.row(vec![
            text(prompt, "model").to_owned(),
            owner,
            number(prompt, "tokens").to_string(),
            Bytes(number(prompt, "size_bytes")).to_string(),
            text(prompt, "problem").to_owned(),
        ]);
    }
    table.print()
}
