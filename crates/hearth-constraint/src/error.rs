//! The failures of a constraint.

use hearth_proto::{Failure, FailureKind};

/// The failure of a constraint that cannot be used.
pub(super) fn invalid(what: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::InvalidSchema,
        format!("the {what} cannot be used: {why}"),
    )
}

/// llguidance's message without its state, traces and excerpts.
pub(super) fn first_line(error: &str) -> String {
    let mut lines = error.trim().lines();
    let mut line = lines.next().unwrap_or_default().to_owned();
    // The parser of regular expressions marks the position first and gives the reason last.
    if line.ends_with(':')
        && let Some(reason) = lines.find_map(|l| l.strip_prefix("error:"))
    {
        line.push_str(reason);
    }
    line.chars().take(300).collect()
}
