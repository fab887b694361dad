//! Options dictionaries: every key known by name, unknown ones refused.

use std::collections::HashMap;
use std::time::Duration;

use zbus::OwnedVariant;

use crate::protocol::Failure;
use crate::service::Submission;

/// A method's `a{sv}`.
pub(super) type Options = HashMap<String, OwnedVariant>;

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

/// Applies the options of `Submit` and `OpenStream`.
pub(super) fn apply(options: &Options, submission: &mut Submission) -> Result<(), Failure> {
    check(options, &["priority", "deadline_ms"])?;
    if let Some(value) = options.get("priority") {
        let word = value
            .downcast_ref::<&str>()
            .map_err(|_| Failure::invalid("option \"priority\" must be a string (s)"))?;
        submission.request.priority = word.parse().map_err(Failure::invalid)?;
    }
    if let Some(value) = options.get("deadline_ms") {
        let ms = value
            .downcast_ref::<u64>()
            .or_else(|_| value.downcast_ref::<u32>().map(u64::from))
            .map_err(|_| Failure::invalid("option \"deadline_ms\" must be a number (t or u)"))?;
        submission.deadline = Some(Duration::from_millis(ms));
    }
    Ok(())
}
