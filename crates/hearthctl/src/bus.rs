//! The connection to the service.

use std::time::Duration;

use serde_json::Value;
use zbus::OwnedObjectPath;

pub use hearth_client::{Client as Bus, Dict, Options};

use hearth_proto::bus::JOBS;

use crate::error::{CtlError, Result};
use crate::global::Global;

/// How often the progress of a job is queried.
const JOB_POLL: Duration = Duration::from_millis(300);

/// Connects to the bus. The first call starts the service.
pub async fn connect(global: &Global) -> Result<Bus> {
    let connected = match &global.bus_address {
        Some(address) => Bus::at(address).await,
        None => Bus::system().await,
    };
    // Any error here means that the service cannot be reached.
    connected.map_err(|e| CtlError::Unreachable(e.to_string()))
}

/// The options of a job that ends with this process.
pub fn ends_with_us<'a>() -> Options<'a> {
    Options::from([("cancel_when_gone", true.into())])
}

/// Waits for a job that was started, and returns its result. `show` gets its progress, 0 to 1,
/// where that is known.
pub async fn finish(bus: &Bus, path: &OwnedObjectPath, show: impl Fn(f64)) -> Result<Value> {
    let id = path.as_str().strip_prefix(JOBS).unwrap_or(path.as_str());
    let job = bus.job(id).await?;
    let shown = async {
        loop {
            tokio::time::sleep(JOB_POLL).await;
            // For display only: errors are reported by the result itself.
            if let Ok(share) = job.progress().await {
                show(share);
            }
        }
    };
    let result = tokio::select! {
        result = job.get_result() => result?,
        never = shown => never,
    };
    serde_json::from_str(&result)
        .map_err(|e| CtlError::Unexpected(format!("the result is not JSON: {e}")))
}
