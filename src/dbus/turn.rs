//! Submissions of a single turn, for `Generate` and `GenerateJson`.

use hearth_proto::Submission;
use hearth_proto::{Constraint, Failure, FailureKind, Message, Priority, Prompt};

/// A turn of a caller that waits for the answer.
pub(super) fn turn(prompt: String) -> Submission {
    let mut submission = Submission::new(Prompt::Chat {
        messages: vec![Message::user(prompt)],
        tools: Vec::new(),
    });
    submission.request.priority = Priority::Interactive;
    submission
}

pub(super) fn schema(text: &str) -> Result<Constraint, Failure> {
    if text.trim().is_empty() {
        return Ok(Constraint::JsonObject);
    }
    match serde_json::from_str(text) {
        Ok(schema) => Ok(Constraint::JsonSchema(schema)),
        Err(error) => Err(Failure::new(
            FailureKind::InvalidSchema,
            format!("the JSON schema is not valid JSON: {error}"),
        )),
    }
}
