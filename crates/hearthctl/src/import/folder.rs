//! Folders in which other programs store models: Ollama's store, the Hugging Face cache,
//! and any folder with GGUF files.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use hearth_gguf::PartName;

use super::{Form, Found, choose, file, open_model};
use crate::error::{CtlError, Result};
use crate::output;
use crate::projector;
use crate::pull::ollama::{Layer, Manifest, short_name};

/// Maximum depth of the search: files in a cache are five levels deep.
const DEPTH: usize = 8;
/// Prefix of the models from Ollama's own library.
const LIBRARY: &str = "registry.ollama.ai/library/";

/// Finds a model in a folder.
pub fn find(path: &Path, wanted: Option<&str>) -> Result<Found> {
    let stores = [path.to_owned(), path.join("models")];
    let is_store = |store: &&PathBuf| store.join("manifests").is_dir();
    match stores.iter().find(is_store) {
        Some(store) => ollama(store, wanted),
        None => files(path, wanted),
    }
}

/// `manifests/HOST/NAMESPACE/NAME/TAG` names blobs, `blobs/sha256-…`.
fn ollama(store: &Path, wanted: Option<&str>) -> Result<Found> {
    let manifests = store.join("manifests");
    let mut tags = Vec::new();
    collect(&manifests, DEPTH, &mut tags)?;
    let named = |path: PathBuf| {
        let full = path.strip_prefix(&manifests).ok()?.to_str()?;
        let (repo, tag) = full.rsplit_once('/')?;
        let repo = repo.strip_prefix(LIBRARY).unwrap_or(repo);
        Some((format!("{repo}:{tag}"), path))
    };
    let tags: Vec<(String, PathBuf)> = tags.into_iter().filter_map(named).collect();
    let same = |name: &str, wanted: &str| name == wanted || name == format!("{wanted}:latest");
    let (name, path) = choose(store, &tags, wanted, same)?;
    let fail = |source| CtlError::File {
        path: path.clone(),
        source,
    };
    let manifest = fs::read(path).map_err(fail)?;
    let manifest: Manifest =
        serde_json::from_slice(&manifest).map_err(|e| fail(std::io::Error::from(e)))?;
    let (layer, note) = manifest.model(name)?;
    if let Some(note) = note {
        output::note(&note);
    }
    let (repo, tag) = name.rsplit_once(':').unwrap_or((name, ""));
    Ok(Found {
        name: short_name(repo, tag),
        form: Form::Complete(open_model(&blob(store, &layer))?),
        projector: manifest.projector().map(|layer| blob(store, layer)),
    })
}

/// The file of a layer. Older versions used a colon.
fn blob(store: &Path, layer: &Layer) -> PathBuf {
    let digest = layer.sha256().unwrap_or_default();
    let [blob, older] = ['-', ':'].map(|c| store.join(format!("blobs/sha256{c}{digest}")));
    if older.exists() { older } else { blob }
}

/// GGUF files at any depth. In a Hugging Face cache, those of `snapshots`, which are
/// links to blobs without a name.
fn files(folder: &Path, wanted: Option<&str>) -> Result<Found> {
    let mut found = Vec::new();
    collect(folder, DEPTH, &mut found)?;
    found.retain(|path| path.extension() == Some(OsStr::new("gguf")));
    found.retain(|path| !is_projector(path));
    found.retain(|path| {
        // Other parts are opened with the first.
        let part = path
            .file_name()
            .and_then(OsStr::to_str)
            .and_then(PartName::parse);
        part.is_none_or(|part| part.part == 1)
    });
    let labelled = |path: PathBuf| {
        let label = path.strip_prefix(folder).ok()?.to_str()?.to_owned();
        Some((label, path))
    };
    let found: Vec<(String, PathBuf)> = found.into_iter().filter_map(labelled).collect();
    let same = |label: &str, wanted: &str| {
        let base = label.rsplit('/').next().unwrap_or(label);
        label == wanted || base == wanted || base.strip_suffix(".gguf") == Some(wanted)
    };
    let (_, path) = choose(folder, &found, wanted, same)?;
    Ok(Found {
        projector: projector::beside(path),
        ..file(path)?
    })
}

fn is_projector(path: &Path) -> bool {
    projector::header(path).is_some_and(|header| header.is_projector())
}

/// All files below a folder, by name. Links to files are included; links to folders are
/// not followed.
fn collect(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) -> Result {
    let fail = |source| CtlError::File {
        path: folder.to_owned(),
        source,
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        entries.push(entry.map_err(fail)?);
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(fail)?;
        let path = entry.path();
        if kind.is_dir() {
            if depth > 0 {
                collect(&path, depth - 1, into)?;
            }
        } else if path.is_file() {
            into.push(path);
        }
    }
    Ok(())
}
