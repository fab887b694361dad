//! Checks a model file by loading it in a separate process, which may crash.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hearth_proto::{Failure, FailureKind};
use serde::Deserialize;
use tokio::process::Command;

/// What `hearth-engine check` prints.
#[derive(Deserialize)]
struct Checked {
    ok: bool,
    #[serde(default)]
    failure: Option<Failure>,
}

/// Checks that `engine` can load the file at `path` within `limit`, an adapter with the model
/// at `base`; `name` is that of the file in messages.
///
/// # Errors
/// `ModelInvalid`, and what the engine reports; `Internal` if it cannot be started.
pub(super) async fn check(
    engine: &Path,
    name: &str,
    path: &Path,
    base: Option<&Path>,
    limit: Duration,
) -> Result<(), Failure> {
    let output = Command::new(engine)
        .arg("check")
        .arg(path)
        .args(
            base.map(|base| [Path::new("--base"), base])
                .into_iter()
                .flatten(),
        )
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(limit, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return Err(Failure::new(
                FailureKind::Internal,
                format!("cannot start {}: {error}", engine.display()),
            ));
        }
        Err(_) => {
            let why = format!(
                "loading took longer than {} s (`engine.load_timeout_s`)",
                limit.as_secs()
            );
            return Err(invalid(name, &why));
        }
    };
    match serde_json::from_slice::<Checked>(&output.stdout) {
        Ok(checked) if checked.ok => Ok(()),
        Ok(Checked {
            failure: Some(failure),
            ..
        }) => Err(Failure {
            // The caller does not know the temporary name.
            message: failure.message.replace(&path.display().to_string(), name),
            ..failure
        }),
        _ => {
            let why = format!("the engine crashed while loading it ({})", output.status);
            Err(invalid(name, &why))
        }
    }
}

fn invalid(name: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::ModelInvalid,
        format!("{name} is not a usable model: {why}; it was not imported"),
    )
}
