//! `/api/pull` and `/api/push`: the service has no network, and says so.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse as _;
use futures_util::{Stream, stream};
use hearth_api::ollama::{decode_model, name_of};
use hearth_proto::{Failure, FailureKind};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::body::Body;
use super::{Answer, error_line, lines_of};
use crate::daemon::Daemon;
use crate::models::Copied;

/// Succeeds for an installed model, and follows an import that runs.
pub(super) async fn pull(State(daemon): State<Daemon>, body: Body) -> Answer {
    let (name, streams) = decode_model(&body)?;
    if let Some(copied) = daemon.store.import_progress(name_of(&name)) {
        return follow(daemon, name, copied, streams).await;
    }
    check_installed(&daemon, &name).await?;
    if !streams {
        return Ok(Json(success()).into_response());
    }
    let manifest = json!({"status": "pulling manifest"});
    Ok(lines_of(stream::iter([manifest, success()])))
}

/// Nothing leaves this machine.
pub(super) async fn push(body: Body) -> Answer {
    let (name, _) = decode_model(&body)?;
    let message = format!(
        "{name} is not pushed: the service has no network access; copy the file of the model \
         (`hearthctl models` shows it)"
    );
    Err(Failure::new(FailureKind::NotSupported, message).into())
}

async fn follow(
    daemon: Daemon,
    name: String,
    mut copied: watch::Receiver<Copied>,
    streams: bool,
) -> Answer {
    if streams {
        return Ok(lines_of(progress(daemon, name, copied)));
    }
    while copied.changed().await.is_ok() {}
    check_installed(&daemon, &name).await?;
    Ok(Json(success()).into_response())
}

/// A line for each step of an import, then one for its result.
fn progress(
    daemon: Daemon,
    name: String,
    copied: watch::Receiver<Copied>,
) -> impl Stream<Item = Value> + Send + 'static {
    let status = format!("importing {name}");
    let line = move |copied: Copied| json!({"status": status, "total": copied.total, "completed": copied.done});
    stream::unfold(Some((copied, true)), move |state| {
        let (daemon, name, line) = (daemon.clone(), name.clone(), line.clone());
        async move {
            let (mut copied, is_first) = state?;
            if is_first || copied.changed().await.is_ok() {
                let now = *copied.borrow_and_update();
                return Some((line(now), Some((copied, false))));
            }
            let last = match check_installed(&daemon, &name).await {
                Ok(()) => success(),
                Err(failure) => error_line(&failure),
            };
            Some((last, None))
        }
    })
}

fn success() -> Value {
    json!({"status": "success"})
}

async fn check_installed(daemon: &Daemon, name: &str) -> Result<(), Failure> {
    let models = daemon.models().await;
    if models.iter().any(|model| model.name == name_of(name)) {
        return Ok(());
    }
    let message = format!(
        "{name} is not installed, and the service has no network access: run `sudo hearthctl pull \
         ollama:{name}`"
    );
    Err(Failure::new(FailureKind::ModelNotFound, message))
}
