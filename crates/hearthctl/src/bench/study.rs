//! `bench study`: measures servers on this computer in turn.

mod show;

use std::time::Duration;

use hearth_lab::study::{Address, Server, Settings, Study};
use hearth_proto::paths::SOCKET;
use serde_json::json;

use crate::args::BenchStudyArgs;
use crate::error::Result;
use crate::output;
use crate::progress::Progress;

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

impl BenchStudyArgs {
    /// The server of `--endpoint` or `--unix`; Hearthd's socket if neither is given.
    fn own_server(&self) -> Server {
        let address = match (&self.endpoint, &self.unix) {
            (Some(address), _) => address.clone(),
            (_, Some(path)) => Address::Unix(path.clone()),
            _ => Address::Unix(SOCKET.into()),
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None if self.endpoint.is_some() => address.to_string(),
            None => "hearthd".to_owned(),
        };
        Server {
            model: self.model.clone(),
            pid: self.pid,
            ..Server::new(name, address, self.api.into())
        }
    }
}
