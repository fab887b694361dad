//! Standard output and standard error: colour, JSON, and text without terminal control
//! characters.

use std::borrow::Cow;
use std::fs::Permissions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::error::{CtlError, Result};

/// Bold green: normal.
pub const GOOD: &str = "1;32";
/// Bold yellow: limited.
pub const WARN: &str = "1;33";
/// Bold red: failed.
pub const BAD: &str = "1;31";
/// Bold: headings.
pub const BOLD: &str = "1";
/// Faint: secondary information.
pub const FAINT: &str = "2";

/// Writes one line.
pub fn line(text: &str) -> Result {
    write(&format!("{text}\n"))
}

/// Writes and flushes text, so that a stream is visible immediately.
pub fn write(text: &str) -> Result {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes one JSON document on one line.
pub fn json(document: &Value) -> Result {
    line(&document.to_string())
}

/// Writes a file that the user named, atomically.
pub fn file(path: &Path, content: &[u8]) -> Result {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // The usual mode of a new file; the umask applies.
    let mode = Permissions::from_mode(0o666);
    let new = tempfile::Builder::new()
        .permissions(mode)
        .tempfile_in(folder);
    let written = new.and_then(|mut file| {
        file.write_all(content)?;
        file.persist(path).map_err(|e| e.error)
    });
    written.map(|_| ()).map_err(|source| CtlError::File {
        path: path.to_owned(),
        source,
    })
}

/// A note for the user, on standard error. A failure to write it is ignored.
pub fn note(text: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{}", paint(&err, FAINT, text));
}

/// Reports why the command failed.
pub fn report(error: &CtlError, as_json: bool) {
    if as_json {
        // If this cannot be written either, only the exit code is left.
        let _ = json(&error.to_json());
        return;
    }
    let mut err = io::stderr().lock();
    if matches!(error, CtlError::Interrupted) {
        // The terminal has printed ^C; continue on the next line.
        if err.is_terminal() {
            let _ = writeln!(err);
        }
        return;
    }
    let text = error.to_string();
    let _ = writeln!(err, "{} {}", paint(&err, BAD, "error:"), clean(&text));
}

/// Colours text for standard output, if colour is enabled.
pub fn coloured<'a>(style: &str, text: &'a str) -> Cow<'a, str> {
    paint(&io::stdout(), style, text)
}

/// Whether standard output is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Removes control characters. Answers and names come from models and files, and must not
/// move the cursor or set a title.
pub fn clean(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(harmful) {
        Cow::Owned(text.replace(harmful, ""))
    } else {
        Cow::Borrowed(text)
    }
}

fn paint<'a>(to: &impl IsTerminal, style: &str, text: &'a str) -> Cow<'a, str> {
    if to.is_terminal() && colour_wanted() {
        Cow::Owned(format!("\x1b[{style}m{text}\x1b[0m"))
    } else {
        Cow::Borrowed(text)
    }
}

/// See <https://no-color.org>: any value other than the empty one disables colour.
fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_taken_out_and_text_is_left() {
        assert_eq!(clean("a\tb\nc é 日"), "a\tb\nc é 日");
        assert_eq!(clean("x\x1b]0;title\x07y\u{9b}2J\r"), "x]0;titley2J");
    }
}
