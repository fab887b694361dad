//! The prompt: from the command line or from standard input.

use std::io::{self, IsTerminal, Read};

use crate::error::{CtlError, Result};

/// Takes the argument, or standard input where the argument is `-` or missing and
/// something is piped in.
pub fn text(argument: Option<&str>, what: &str) -> Result<String> {
    let text = match argument {
        Some("-") => read_stdin()?,
        Some(text) => text.to_owned(),
        None if io::stdin().is_terminal() => {
            return Err(CtlError::Usage(format!(
                "no {what}: give it as an argument, or pipe it in"
            )));
        }
        None => read_stdin()?,
    };
    if text.trim().is_empty() {
        return Err(CtlError::Usage(format!("the {what} is empty")));
    }
    Ok(text)
}

/// Reads all; the line break that ends the last line is not part of the text.
fn read_stdin() -> Result<String> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(|source| CtlError::File {
            path: "standard input".into(),
            source,
        })?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
