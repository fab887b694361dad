//! Why offline work failed.

use std::io;
use std::path::{Path, PathBuf};

use hearth_proto::Failure;

/// Why offline work failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The work cannot be done as requested.
    #[error("{0}")]
    Request(String),
    /// A file cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The model or the engine failed; the message says what to do next.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The engine wrote something unexpected: it is of another version.
    #[error("{0}")]
    Protocol(String),
    /// A plot cannot be drawn.
    #[error("cannot draw the plot: {0}")]
    Plot(String),
}

/// The result of offline work.
pub type Result<T = (), E = LabError> = std::result::Result<T, E>;

impl LabError {
    /// An error of the file at `path`.
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}
