//! Options dictionaries: every key known by name, unknown ones refused.

use std::collections::HashMap;
use std::time::Duration;

use zbus::OwnedVariant;

use crate::protocol::Failure;
use crate::service::openai::decode_tools;
use crate::service::{Prewarm, Submission};

/// A method's `a{sv}`.
pub(super) type Options = HashMap<String, OwnedVariant>;

/// Waited for a board that is warm or busy, where the caller does not say.
const TUNE_WAIT: Duration = Duration::from_mins(10);

/// Refuses keys that the method does not know.
pub(super) fn check(options: &Options, known: &[&str]) -> Result<(), Failure> {
    let Some(unknown) = options.keys().find(|k| !known.contains(&k.as_str())) else {
        return Ok(());
    };
    Err(Failure::invalid(if known.is_empty() {
        format!("unknown option {unknown:?}: this method takes none")
    } else {
        format!("unknown option {unknown:?}: known are {}", known.join(", "))
    }))
}

/// A string among the options.
fn text<'a>(options: &'a Options, name: &str) -> Result<Option<&'a str>, Failure> {
    let Some(value) = options.get(name) else {
        return Ok(None);
    };
    let text = value.downcast_ref::<&str>();
    text.map(Some)
        .map_err(|_| Failure::invalid(format!("option {name:?} must be a string (s)")))
}

/// What `Prewarm` asks for.
pub(super) fn prewarm(system: String, options: &Options) -> Result<Prewarm, Failure> {
    check(options, &["model", "tools"])?;
    Ok(Prewarm {
        system,
        tools: match text(options, "tools")? {
            None | Some("") => Vec::new(),
            Some(tools) => decode_tools(tools)?,
        },
        model: text(options, "model")?.map(str::to_owned),
    })
}

/// How long `Tune` waits for a board that is not at rest.
pub(super) fn tune(options: &Options) -> Result<Duration, Failure> {
    check(options, &["wait_s"])?;
    let Some(value) = options.get("wait_s") else {
        return Ok(TUNE_WAIT);
    };
    let seconds = value.downcast_ref::<u32>();
    let seconds = seconds
        .map_err(|_| Failure::invalid("option \"wait_s\" must be a number of seconds (u)"))?;
    Ok(Duration::from_secs(u64::from(seconds)))
}

/// Applies the options of `Submit` and `OpenStream`; returns whether the job ends when
/// its submitter leaves the bus.
pub(super) fn apply(options: &Options, submission: &mut Submission) -> Result<bool, Failure> {
    check(options, &["priority", "deadline_ms", "cancel_when_gone"])?;
    if let Some(word) = text(options, "priority")? {
        submission.request.priority = word.parse().map_err(Failure::invalid)?;
    }
    if let Some(value) = options.get("deadline_ms") {
        let ms = value
            .downcast_ref::<u64>()
            .or_else(|_| value.downcast_ref::<u32>().map(u64::from))
            .map_err(|_| Failure::invalid("option \"deadline_ms\" must be a number (t or u)"))?;
        submission.deadline = Some(Duration::from_millis(ms));
    }
    options.get("cancel_when_gone").map_or(Ok(false), |value| {
        let wrong = |_| Failure::invalid("option \"cancel_when_gone\" must be true or false (b)");
        value.downcast_ref::<bool>().map_err(wrong)
    })
}
