//! Checks a model file.

use std::path::Path;
use std::sync::Arc;

use hearth_proto::{Failure, FailureKind, ModelInfo, Sampling, Use};

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
