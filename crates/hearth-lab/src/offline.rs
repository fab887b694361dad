//! Runs jobs that need llama.cpp but no service in `hearth-engine offline`, as a child
//! process: a file that crashes llama.cpp ends the child only. The messages are those of
//! `hearth_proto::OfflineJob`.

use std::path::PathBuf;
use std::process::Stdio;

use hearth_proto::{Failure, FailureKind, OfflineEvent, OfflineJob};
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::Progress;
use crate::error::{LabError, Result};

/// Path in the package, relative to `/usr/bin`.
const INSTALLED: &str = "../libexec/hearthd/hearth-engine";
/// Folder of large temporary files: `/tmp` may be in memory (file-hierarchy(7)).
const LARGE_TEMPORARY: &str = "/var/tmp";

/// Runs `job` and returns its result; `step` describes what it begins with.
///
/// # Errors
/// `Failure` as the engine reports it, or `EngineCrashed`; `File` if the executable cannot
/// be started; `Protocol`.
pub async fn run<T: DeserializeOwned>(
    job: &OfflineJob,
    step: &str,
    progress: &dyn Progress,
) -> Result<T> {
    progress.begin(step);
    let engine = executable();
    let failed = |source| LabError::file(&engine, source);
    let mut child = Command::new(&engine)
        .arg("offline")
        .env(
            "HEARTH_LOG",
            std::env::var("HEARTH_LOG").unwrap_or("error".into()),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Only this process receives Ctrl-C; it then kills the child.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (Some(mut to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(LabError::Protocol("the engine has no pipes".to_owned()));
    };
    let description = serde_json::to_vec(job).map_err(|e| LabError::Protocol(e.to_string()))?;
    // A child that does not read its input exits and reports why.
    _ = to.write_all(&description).await;
    drop(to);

    let mut lines = BufReader::new(from).lines();
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        let event = serde_json::from_str(&line)
            .map_err(|e| LabError::Protocol(format!("the engine wrote {line:?}: {e}")))?;
        match event {
            OfflineEvent::Progress { what, done, total } => progress.steps(&what, done, total),
            OfflineEvent::Failed(failure) => return Err(failure.into()),
            OfflineEvent::Done(result) => {
                return serde_json::from_value(result)
                    .map_err(|e| LabError::Protocol(e.to_string()));
            }
        }
    }
    let status = child.wait().await.map_err(failed)?;
    let message = format!(
        "the engine ended without a result ({status}): the model file may be damaged. Try: {} \
         check FILE",
        engine.display()
    );
    Err(Failure::new(FailureKind::EngineCrashed, message).into())
}

/// The executable of the same package or build.
fn executable() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.with_file_name("hearth-engine");
    match own.parent() {
        Some(folder) if !beside.exists() => folder.join(INSTALLED),
        _ => beside,
    }
}

/// One compute thread for each processor that this process may use.
pub fn threads() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// A large temporary file, deleted when dropped.
pub(crate) fn temporary() -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("hearthctl-");
    builder
        .tempfile_in(LARGE_TEMPORARY)
        .or_else(|_| builder.tempfile())
        .map_err(|source| LabError::file(LARGE_TEMPORARY.as_ref(), source))
}
