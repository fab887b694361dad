//! The projector of a model that is imported. It is imported as `mmproj-<model>`, which is how
//! the service finds it.

use std::fs::File;
use std::path::Path;

use hearth_proto::FailureKind;

use crate::bus::Bus;
use crate::error::{CtlError, Result};
use crate::progress::Progress;
use crate::projector;
use crate::upload::upload;

/// A projector to import.
#[derive(Debug)]
pub(super) struct Projector {
    file: File,
}

impl Projector {
    /// The projector that was named, else the only one beside the model that fits it.
    ///
    /// # Errors
    /// `Service` where the named one is no projector, or that of another model.
    pub(super) fn find(named: Option<&Path>, model: &Path) -> Result<Option<Self>> {
        match named {
            Some(path) => Self::open(path, model).map(Some),
            None => Ok(projector::beside(model).and_then(|path| {
                let file = File::open(path).ok()?;
                Some(Self { file })
            })),
        }
    }

    fn open(path: &Path, model: &Path) -> Result<Self> {
        let (file, _) = super::open(path)?;
        projector::check(path, model).map_err(|why| {
            let message = format!("{}: {why}", path.display());
            CtlError::service(FailureKind::ModelInvalid, message)
        })?;
        Ok(Self { file })
    }

    /// Passes it to the service; returns its size.
    ///
    /// # Errors
    /// Those of the service.
    pub(super) async fn upload(&self, bus: &Bus, model: &str, progress: &Progress) -> Result<u64> {
        upload(bus, &projector::name(model), &self.file, progress).await
    }
}

#[cfg(test)]
mod tests {
    use hearth_gguf::synthetic::{Projector as Shape, Storage, make, make_projector};

    use super::*;

    #[test]
    fn a_named_projector_of_another_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = "1,64,64,2,1,300".parse().unwrap();
        make(&at("model.gguf"), text, Storage::Q4KM, 1, &mut |_, _| ()).unwrap();
        let shape = Shape::named("tiny-gemma3").unwrap();
        make_projector(&at("mmproj-own.gguf"), shape, 1).unwrap();
        make_projector(&at("mmproj-wrong.gguf"), shape.for_width(96), 1).unwrap();
        let found = Projector::find(None, &at("model.gguf")).unwrap();
        assert!(found.is_some(), "the only one that fits");
        let named = |name: &str| Projector::find(Some(&at(name)), &at("model.gguf"));
        assert!(named("mmproj-own.gguf").unwrap().is_some());
        let error = named("mmproj-wrong.gguf").unwrap_err().to_string();
        assert!(error.contains("96") && error.contains("64"), "{error}");
    }
}
