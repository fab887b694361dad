//! The projector of a model that is imported: the file that turns pictures into what the
//! model understands. It is imported as `mmproj-<model>`, which is how the service finds it.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use hearth_gguf::{Header, read_header};
use hearth_proto::FailureKind;

use crate::bus::Bus;
use crate::error::{CtlError, Result};
use crate::progress::Progress;
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
            None => Ok(Self::beside(model)),
        }
    }

    fn open(path: &Path, model: &Path) -> Result<Self> {
        let (file, _) = super::open(path)?;
        let invalid = |why: String| {
            let message = format!("{}: {why}", path.display());
            CtlError::service(FailureKind::ModelInvalid, message)
        };
        let header = header(path).ok_or_else(|| invalid("not a GGUF file".into()))?;
        let Some(projector) = header.projector else {
            return Err(invalid("not a projector (mmproj file)".into()));
        };
        match self::header(model).map(|header| header.shape.width) {
            Some(width) if width > 0 && !projector.fits(width) => Err(invalid(format!(
                "the projector of a model with embeddings of {} numbers, this model's have {width}",
                projector.text_width
            ))),
            _ => Ok(Self { file }),
        }
    }

    fn beside(model: &Path) -> Option<Self> {
        let width = header(model)?.shape.width;
        let fits = |path: &PathBuf| {
            let projector = header(path).and_then(|header| header.projector);
            width > 0 && projector.is_some_and(|projector| projector.fits(width))
        };
        let folder = model
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let files = fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
        let mut found = files
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| is_named_like_one(path))
            .filter(fits);
        let only = found.next()?;
        match found.next() {
            None => File::open(only).ok().map(|file| Self { file }),
            Some(_) => None,
        }
    }

    /// Passes it to the service; returns its size.
    ///
    /// # Errors
    /// Those of the service.
    pub(super) async fn upload(&self, bus: &Bus, model: &str, progress: &Progress) -> Result<u64> {
        upload(bus, &format!("mmproj-{model}"), &self.file, progress).await
    }
}

fn is_named_like_one(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let is_gguf = path
        .extension()
        .is_some_and(|extension| extension == "gguf");
    is_gguf && name.is_some_and(|name| name.to_ascii_lowercase().contains("mmproj"))
}

fn header(path: &Path) -> Option<Header> {
    read_header(&mut BufReader::new(File::open(path).ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::copy;

    use hearth_gguf::synthetic::{Projector as Shape, Storage, make, make_projector};

    use super::*;

    #[test]
    fn the_only_projector_beside_a_model_is_imported_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = "1,64,64,2,1,300".parse().unwrap();
        make(&at("model.gguf"), text, Storage::Q4KM, 1, &mut |_, _| ()).unwrap();
        let found = || Projector::find(None, &at("model.gguf")).unwrap().is_some();
        assert!(!found());
        let shape = Shape::named("tiny-gemma3").unwrap();
        make_projector(&at("mmproj-wrong.gguf"), shape.for_width(96), 1).unwrap();
        assert!(!found(), "it belongs to another model");
        make_projector(&at("mmproj-model-f16.gguf"), shape, 1).unwrap();
        assert!(found());
        copy(at("mmproj-model-f16.gguf"), at("mmproj-model-f32.gguf")).unwrap();
        assert!(!found(), "there are two");
        let named = |name: &str| Projector::find(Some(&at(name)), &at("model.gguf"));
        assert!(named("mmproj-model-f32.gguf").unwrap().is_some());
        let error = named("mmproj-wrong.gguf").unwrap_err().to_string();
        assert!(error.contains("96") && error.contains("64"), "{error}");
        assert!(
            named("model.gguf")
                .unwrap_err()
                .to_string()
                .contains("mmproj")
        );
    }
}
