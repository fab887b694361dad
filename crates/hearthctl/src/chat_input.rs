//! The input lines of a chat: an editor in a terminal, otherwise a pipe.

use std::fs::DirBuilder;
use std::io::{self, BufRead, IsTerminal};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::sync::mpsc;

use crate::error::{CtlError, Result};
use crate::output;

/// Prompt of the editor.
const PROMPT: &str = "> ";
/// Turns off a mode of the terminal that the editor has turned on.
const END_BRACKETED_PASTE: &str = "\x1b[?2004l\n";

/// Source of the user's lines.
pub enum ChatInput {
    /// A terminal, with history.
    Editor {
        /// Reads and edits lines; absent while a thread does.
        editor: Option<Box<DefaultEditor>>,
        /// File of the history, if there is one.
        history: Option<PathBuf>,
        /// The terminal's settings outside the editor.
        settings: Option<Termios>,
    },
    /// A pipe or file.
    Pipe(mpsc::Receiver<io::Result<String>>),
}

impl ChatInput {
    /// The editor if both input and output are a terminal, otherwise the pipe.
    pub fn open() -> Result<Self> {
        if !(io::stdin().is_terminal() && output::stdout_is_terminal()) {
            return Ok(Self::Pipe(read_in_background()));
        }
        let mut editor = DefaultEditor::new().map_err(|e| terminal(&e))?;
        let history = history_file();
        if let Some(path) = &history {
            // The file does not exist before the first chat.
            let _ = editor.load_history(path);
        }
        Ok(Self::Editor {
            editor: Some(Box::new(editor)),
            history,
            settings: tcgetattr(io::stdin()).ok(),
        })
    }

    /// Whether input is a terminal.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Editor { .. })
    }

    /// The next line; `None` at the end (Ctrl-D).
    pub async fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Editor { editor, .. } => loop {
                match read(editor, PROMPT.to_owned()).await? {
                    Ok(line) => {
                        if let Some(editor) = editor.as_mut().filter(|_| !line.trim().is_empty()) {
                            let _ = editor.add_history_entry(&line);
                        }
                        return Ok(Some(line));
                    }
                    // Ctrl-C discards the line only.
                    Err(ReadlineError::Interrupted) => {}
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(e) => return Err(terminal(&e)),
                }
            },
            Self::Pipe(lines) => match lines.recv().await {
                Some(Ok(line)) => Ok(Some(line)),
                Some(Err(source)) => Err(CtlError::File {
                    path: "standard input".into(),
                    source,
                }),
                None => Ok(None),
            },
        }
    }

    /// The answer to a question, which does not enter the history; `None` for Ctrl-C and
    /// Ctrl-D, and without a terminal.
    pub async fn ask(&mut self, question: String) -> Result<Option<String>> {
        let Self::Editor { editor, .. } = self else {
            return Ok(None);
        };
        match read(editor, question).await? {
            Ok(line) => Ok(Some(line)),
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => Ok(None),
            Err(e) => Err(terminal(&e)),
        }
    }
}

/// Reads a line on a thread of its own, because servers with tools talk meanwhile.
async fn read(
    editor: &mut Option<Box<DefaultEditor>>,
    prompt: String,
) -> Result<std::result::Result<String, ReadlineError>> {
    let gone = || CtlError::Output(io::Error::other("the terminal is in use"));
    let mut own = editor.take().ok_or_else(gone)?;
    let reading = tokio::task::spawn_blocking(move || {
        let line = own.readline(&prompt);
        (own, line)
    });
    let (own, line) = reading.await.map_err(|_| gone())?;
    *editor = Some(own);
    Ok(line)
}

impl Drop for ChatInput {
    fn drop(&mut self) {
        match self {
            Self::Editor {
                editor: Some(editor),
                history: Some(path),
                ..
            } => {
                // A history that cannot be saved is not an error.
                let _ = editor.save_history(path);
            }
            // A signal ends the chat while the editor reads.
            Self::Editor {
                editor: None,
                settings: Some(settings),
                ..
            } => {
                let _ = output::write(END_BRACKETED_PASTE);
                let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, settings);
            }
            _ => {}
        }
    }
}

/// Reads on a separate thread: a blocked read of standard input cannot be cancelled, and
/// Ctrl-C has to work in any case.
fn read_in_background() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// `$XDG_STATE_HOME/hearthctl/history`, in a folder that only the user can access.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        // The specification says to ignore relative paths.
        path.is_absolute().then_some(path)
    };
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let dir = state.join("hearthctl");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .ok()?;
    Some(dir.join("history"))
}

fn terminal(error: &ReadlineError) -> CtlError {
    CtlError::Output(io::Error::other(format!("terminal: {error}")))
}
