//! Runs work that needs llama.cpp but no service in `hearth-engine`, as a child process:
//! a file that crashes llama.cpp ends the child only.

use std::path::PathBuf;
use std::process::Stdio;

use hearth_proto::{FailureKind, OfflineEvent, OfflineJob};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::error::{CtlError, Result};
use crate::progress::Progress;

/// Path in the package, relative to `/usr/bin`.
const INSTALLED: &str = "../libexec/hearthd/hearth-engine";

/// Runs `job` and shows its progress; returns its result.
pub async fn run<T: DeserializeOwned>(job: &OfflineJob, text: &str, quiet: bool) -> Result<T> {
    let engine = executable();
    let failed = |source| CtlError::File {
        path: engine.clone(),
        source,
    };
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
        return Err(CtlError::Unexpected("the engine has no pipes".to_owned()));
    };
    let description = serde_json::to_vec(job).map_err(|e| CtlError::Unexpected(e.to_string()))?;
    // A child that does not read its input exits and reports why.
    _ = to.write_all(&description).await;
    drop(to);

    let progress = Progress::new(text, quiet);
    let mut lines = BufReader::new(from).lines();
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        let event = serde_json::from_str(&line)
            .map_err(|e| CtlError::Unexpected(format!("the engine wrote {line:?}: {e}")))?;
        match event {
            OfflineEvent::Progress { what, done, total } => progress.steps(&what, done, total),
            OfflineEvent::Failed(failure) => {
                return Err(CtlError::service(failure.kind, failure.message));
            }
            OfflineEvent::Done(result) => {
                return serde_json::from_value(result)
                    .map_err(|e| CtlError::Unexpected(e.to_string()));
            }
        }
    }
    let status = child.wait().await.map_err(failed)?;
    Err(CtlError::service(
        FailureKind::EngineCrashed,
        format!(
            "the engine ended without a result ({status}); is the model file whole? Try: {} check FILE",
            engine.display()
        ),
    ))
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
