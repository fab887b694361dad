//! Files of questions: one JSON object per line.

use std::path::Path;

use hearth_proto::Question;

use crate::error::{LabError, Result};
use crate::model::text;

/// Reads a file of questions.
///
/// # Errors
/// `File`, or `Request` with the line that is wrong.
pub fn questions(path: &Path) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    for (number, line) in (1..).zip(text(path)?.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let wrong =
            |why: String| LabError::Request(format!("{}, line {number}: {why}", path.display()));
        let question: Question = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        if question.messages.is_empty() {
            return Err(wrong("it has no messages".to_owned()));
        }
        if question.accept.is_empty() && question.accept_call.is_none() {
            return Err(wrong("it needs `accept` or `accept_call`".to_owned()));
        }
        questions.push(question);
    }
    if questions.is_empty() {
        let why = format!("{} contains no questions", path.display());
        return Err(LabError::Request(why));
    }
    Ok(questions)
}
