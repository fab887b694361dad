//! Checks a model file, or an adapter.

use std::path::Path;
use std::sync::Arc;

use hearth_proto::{AdapterFile, Failure, FailureKind, ModelInfo, Sampling, Use};

use super::{chat, decode, load_request};
use crate::backend::{Backend as _, Decoder as _, Loader as _};
use crate::llama::{LlamaLoader, check_projector, check_tensors, header};

/// Context of the one-token trial in [`check`].
const CHECK_CONTEXT: u32 = 64;

/// Loads a model file completely, checks every number in it and decodes one token, or
/// computes one vector or score, if its kind can.
///
/// # Errors
/// The failure that says why it is not usable.
pub fn check(loader: &LlamaLoader, path: &Path) -> Result<ModelInfo, Failure> {
    if header(path).is_ok_and(|header| header.projector.is_some()) {
        return check_projector(loader.runtime(), path);
    }
    check_tensors(loader.runtime(), path)?;
    let progress = Arc::default();
    let request = load_request(path, CHECK_CONTEXT, 1);
    let mut backend = loader.load(&request, &progress, Box::new(|_| ()))?;
    let does_not_run = |error: String| {
        let message = format!("{} loads but does not run: {error}", path.display());
        Failure::new(FailureKind::ModelInvalid, message)
    };
    let kind = backend.info().kind;
    if !kind.can(Use::Completion) {
        let made = match kind {
            kind if kind.can(Use::Embedding) => backend.embed(&[0]).map(drop),
            kind if kind.can(Use::Rerank) => backend.rank(&[0]).map(drop),
            _ => Ok(()),
        };
        made.map_err(|failure| does_not_run(failure.message))?;
        return Ok(backend.info().clone());
    }
    chat(&backend)?;
    let mut sampler = backend.sampler(&Sampling::default())?;
    decode(&mut backend, &[0], 0).map_err(|error| does_not_run(error.to_string()))?;
    backend
        .sample(&mut sampler, 0, None, None)
        .map_err(|failure| does_not_run(failure.message))?;
    Ok(backend.info().clone())
}

/// Checks an adapter: its header and, if a model is given that it fits, that it can be loaded
/// with it and one token decoded.
///
/// # Errors
/// The failure that says why it is not usable.
pub fn check_adapter(
    loader: &LlamaLoader,
    path: &Path,
    base: Option<&Path>,
) -> Result<(), Failure> {
    let is_not_usable = |why: &dyn std::fmt::Display| {
        let message = format!("{} is not a usable adapter: {why}", path.display());
        Failure::new(FailureKind::ModelInvalid, message)
    };
    header(path)?
        .check_adapter()
        .map_err(|e| is_not_usable(&e))?;
    let Some(base) = base else {
        return Ok(());
    };
    let mut request = load_request(base, CHECK_CONTEXT, 1);
    request.adapters.push(AdapterFile {
        name: String::new(),
        path: path.to_owned(),
        bytes: 0,
    });
    let mut backend = loader.load(&request, &Arc::default(), Box::new(|_| ()))?;
    if let Some(Err(why)) = backend.adapters().first().map(|a| a.loaded.as_ref()) {
        return Err(is_not_usable(why));
    }
    backend.apply_adapters(&[(0, 1.0)]);
    if !backend.info().kind.can(Use::Completion) {
        return Ok(());
    }
    let mut sampler = backend.sampler(&Sampling::default())?;
    decode(&mut backend, &[0], 0).map_err(|e| is_not_usable(&e))?;
    let sampled = backend.sample(&mut sampler, 0, None, None);
    sampled.map_err(|failure| is_not_usable(&failure))?;
    Ok(())
}
