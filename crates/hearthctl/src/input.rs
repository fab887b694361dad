//! Input texts: a prompt from the command line or from standard input, and files.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use crate::error::{CtlError, Result};

/// Returns the argument, or standard input if the argument is `-`, or missing while input
/// is piped.
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
    not_empty(text, what)
}

/// Reads a file, or standard input if the path is `-`.
pub fn file(path: &Path, what: &str) -> Result<String> {
    let text = if path == Path::new("-") {
        read_stdin()?
    } else {
        let text = fs::read_to_string(path).map_err(|source| CtlError::File {
            path: path.to_owned(),
            source,
        })?;
        without_last_break(text)
    };
    not_empty(text, what)
}

fn not_empty(text: String, what: &str) -> Result<String> {
    if text.trim().is_empty() {
        return Err(CtlError::Usage(format!("the {what} is empty")));
    }
    Ok(text)
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(|source| CtlError::File {
            path: "standard input".into(),
            source,
        })?;
    Ok(without_last_break(text))
}

/// The line break that ends the last line is not part of the text.
fn without_last_break(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
    }
    text
}
