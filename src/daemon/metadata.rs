//! What the files of a model contain besides its weights.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use hearth_gguf::{GgufError, MetaValue, read_metadata};
use hearth_proto::{Failure, FailureKind, ModelRef, Use};

use super::Daemon;
use crate::models::ProjectorOf;

/// Longest list that is shown unless all are wanted: a vocabulary has megabytes.
const SHORT_LIST: u64 = 5;

/// The key-values of a model's files, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Those of the model.
    pub model: Vec<(String, MetaValue)>,
    /// Those of its projector; empty without one.
    pub projector: Vec<(String, MetaValue)>,
}

impl Daemon {
    /// The key-values of an installed model, as last listed. Long lists are empty, unless
    /// `complete` asks for them. A file that cannot be read has none: the list of models says
    /// what is wrong with it.
    ///
    /// # Errors
    /// `ModelNotFound`.
    pub async fn metadata(&self, name: &str, complete: bool) -> Result<Metadata, Failure> {
        let model = self.store.find_listed(&ModelRef::named(name), Use::Chat)?;
        let projector = match self.store.index().projector_of(&model) {
            ProjectorOf::Found(found) => Some(found.path),
            ProjectorOf::None | ProjectorOf::Unusable(_) => None,
        };
        let longest = if complete { u64::MAX } else { SHORT_LIST };
        // Each takes much memory.
        let _turn = self.metadata_reads.lock().await;
        let read = tokio::task::spawn_blocking(move || Metadata {
            model: read(&model.path, longest).unwrap_or_default(),
            projector: projector
                .and_then(|path| read(&path, longest).ok())
                .unwrap_or_default(),
        });
        read.await
            .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))
    }
}

fn read(path: &Path, longest: u64) -> Result<Vec<(String, MetaValue)>, GgufError> {
    read_metadata(&mut BufReader::new(File::open(path)?), longest)
}
