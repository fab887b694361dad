//! `bench study`: measures servers on this computer in turn.

mod args;
mod show;

use std::time::Duration;

use hearth_lab::study::{Settings, Study};
use serde_json::json;

use crate::error::Result;
use crate::output;
use crate::progress::Progress;
pub use args::BenchStudyArgs;

/// `hearthctl bench study`.
pub async fn run(as_json: bool, args: &BenchStudyArgs) -> Result {
    let servers = std::iter::once(args.own_server()).chain(args.against.iter().cloned());
    let settings = Settings {
        runs: args.runs,
        tokens: args.tokens,
        reset: args.reset.into(),
        timeout: Duration::from_secs(u64::from(args.timeout)),
    };
    let mut study = Study::new(settings, servers.collect())?;
    let progress = Progress::new("", as_json);
    study.run(&progress).await;
    drop(progress);
    if as_json {
        output::json(&json!(study.report()))?;
    } else {
        show::print(&study)?;
    }
    if let Some(path) = &args.plot {
        output::file(path, study.plot()?.as_bytes())?;
    }
    show::verdict(study.servers())
}
