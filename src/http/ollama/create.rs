//! `/api/create`: a model that is another one with settings of its own, or an uploaded file.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse as _;
use futures_util::stream;
use hearth_api::ollama::{Create, decode_create, name_of};
use hearth_gguf::MetaValue;
use hearth_proto::{Failure, FailureKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::Connection;
use super::super::body::Body;
use super::{Answer, error_line, lines_of};
use crate::caller::Caller;
use crate::daemon::Daemon;
use crate::models::Defaults;

/// Characters of a file's name that a refusal quotes.
const NAME_SHOWN: usize = 60;

/// What the client sees of the work.
type Lines = mpsc::UnboundedSender<Value>;

pub(super) async fn create(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Answer {
    let request = decode_create(&body)?;
    let caller = connection.0.caller();
    // Refused before the stream begins, so that the status says it.
    daemon.store.check_may_change(&caller)?;
    let streams = request.stream;
    let (lines, mut sent) = mpsc::unbounded_channel();
    if !streams {
        make(&daemon, &caller, request, &lines).await?;
        return Ok(Json(status("success")).into_response());
    }
    check(&daemon, &request).await?;
    tokio::spawn(async move {
        let made = make(&daemon, &caller, request, &lines).await;
        let last = match made {
            Ok(()) => status("success"),
            Err(failure) => error_line(&failure),
        };
        _ = lines.send(last);
    });
    Ok(lines_of(stream::poll_fn(move |cx| sent.poll_recv(cx))))
}

fn status(text: &str) -> Value {
    json!({"status": text})
}

async fn make(
    daemon: &Daemon,
    caller: &Caller,
    request: Create,
    lines: &Lines,
) -> Result<(), Failure> {
    check(daemon, &request).await?;
    let say = |text: &str| _ = lines.send(status(text));
    let name = name_of(&request.name).to_owned();
    let mut defaults = Defaults {
        system: request.system,
        messages: request.messages,
        sampling: request.sampling,
        max_tokens: request.max_tokens,
        context_max: request.context_max,
        stop: request.stop,
        lora: request.lora,
        parameters: request.parameters,
        license: request.license,
    };
    let base = if let [(_, digest)] = &request.files[..] {
        say("importing the model");
        daemon.store.import_blob(caller, &name, digest).await?;
        name.clone()
    } else {
        name_of(&request.from).to_owned()
    };
    for (file, digest) in &request.adapters {
        say("importing an adapter");
        let adapter = daemon.store.import_adapter(caller, file, digest).await?;
        defaults.lora.push(adapter);
    }
    let is_plain = base == name && defaults == Defaults::default();
    if !is_plain {
        say("writing the settings");
        daemon.store.derive(caller, &name, &base, defaults).await?;
    }
    Ok(())
}

/// Refuses what can be seen at once.
async fn check(daemon: &Daemon, request: &Create) -> Result<(), Failure> {
    if request.files.len() > 1 {
        return Err(unsupported(
            "files",
            "one GGUF file is taken; import others with `hearthctl import`, which joins the parts \
             of a model and takes its projector",
        ));
    }
    let files = request.files.iter().map(|(name, _)| ("files", name));
    let adapters = request.adapters.iter().map(|(name, _)| ("adapters", name));
    for (field, name) in files.chain(adapters) {
        let is_gguf = std::path::Path::new(name)
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
        if !is_gguf {
            let name: String = name.chars().take(NAME_SHOWN).collect();
            let what = format!("{name:?} is no GGUF file, and others are not converted");
            return Err(unsupported(field, &what));
        }
    }
    if request.template.is_empty() {
        return Ok(());
    }
    let metadata = daemon.metadata(name_of(&request.from), false).await?;
    let own = metadata.model.iter().find_map(|(key, value)| match value {
        MetaValue::Text(text) if key == super::show::TEMPLATE => Some(text),
        _ => None,
    });
    if own == Some(&request.template) {
        return Ok(());
    }
    Err(unsupported(
        "template",
        "the chat template of the model file is used, and cannot be replaced: leave it out",
    ))
}

fn unsupported(field: &str, what: &str) -> Failure {
    let message = format!("`{field}`: {what}");
    Failure::new(FailureKind::NotSupported, message).about(field)
}
