//! The projector of a model that is downloaded: fetched after the model, in the same way.

use std::path::{Path, PathBuf};

use super::http::Http;
use super::partial::Partial;
use super::{Source, Target, download, write_output};
use crate::error::Result;
use crate::progress::Progress;
use crate::projector;
use crate::upload::upload;

/// The file for the projector of a model that is written to `model`.
pub(super) fn output(model: &Path) -> PathBuf {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    model.with_file_name(format!("{}.gguf", projector::name(&stem)))
}

/// Downloads the projector, if there is one that fits the model.
///
/// # Errors
/// Those of a download.
pub(super) async fn fetch<'a>(
    http: &Http,
    source: &Source,
    model: &[Partial<'_>],
    folder: &Path,
    progress: &'a Progress,
) -> Result<Option<Partial<'a>>> {
    let Some(remote) = &source.projector else {
        return Ok(None);
    };
    let partial = download::fetch(http, remote, folder, progress).await?;
    let Some(model) = model.first() else {
        return Ok(None);
    };
    if let Err(why) = projector::check(partial.path(), model.path()) {
        let file = &remote.file_name;
        progress.note(&format!("{file} is left out, because it is {why}"));
        partial.delete();
        return Ok(None);
    }
    Ok(Some(partial))
}

/// Delivers the projector after its model; returns its size. The download stays if the service
/// refuses it.
///
/// # Errors
/// Those of the service; `File`.
pub(super) async fn deliver(
    projector: Option<Partial<'_>>,
    target: Target<'_>,
    progress: &Progress,
) -> Result<Option<u64>> {
    let Some(partial) = projector else {
        return Ok(None);
    };
    let size = match target {
        Target::File(model) => {
            let parts = std::slice::from_ref(&partial);
            let folder = partial.path().parent().unwrap_or(Path::new("."));
            write_output(&output(model), folder, parts, progress).await?
        }
        Target::Service(bus, model) => {
            let name = projector::name(model);
            let uploaded = upload(bus, &name, partial.file(), progress).await;
            if uploaded.is_err() {
                progress.note(&format!(
                    "{model} was imported without its projector; to import that: sudo hearthctl \
                     import {} --name {name}",
                    partial.path().display()
                ));
            }
            uploaded?
        }
    };
    partial.delete();
    Ok(Some(size))
}
