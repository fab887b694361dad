//! Projectors: the files with which models take pictures or sounds. Which of them fits a model
//! file, and which of those beside it belongs to it.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use hearth_gguf::{Header, read_header};

/// Beginning of the name under which the service finds the projector of a model.
const PREFIX: &str = "mmproj-";

/// The name under which the service finds the projector of a model.
pub fn name(model: &str) -> String {
    format!("{PREFIX}{model}")
}

/// Checks that a file is a projector, and one for this model file.
///
/// # Errors
/// Why not.
pub fn check(projector: &Path, model: &Path) -> Result<(), String> {
    let found = header(projector).ok_or("not a GGUF file")?.projector;
    let found = found.ok_or("not a projector (mmproj file)")?;
    match header(model).map(|header| header.shape.width) {
        Some(width) if width > 0 && !found.fits(width) => Err(format!(
            "the projector of a model with embeddings of {} numbers, this model's have {width}",
            found.text_width
        )),
        _ => Ok(()),
    }
}

/// The projector of a model file: `mmproj-<model>.gguf`, else the only one in the same folder
/// that fits it and is not named after another model there.
pub fn beside(model: &Path) -> Option<PathBuf> {
    header(model).filter(|header| header.shape.width > 0)?;
    let fits = |path: &PathBuf| check(path, model).is_ok();
    let stem = model.file_stem()?.to_str()?;
    let own = model.with_file_name(format!("{}.gguf", name(stem)));
    if own.is_file() {
        return Some(own).filter(fits);
    }
    let folder = model
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let files = fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let mut found = files
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_named_like_one(path) && !is_of_another(path))
        .filter(fits);
    let only = found.next()?;
    found.next().is_none().then_some(only)
}

/// The header of a file; `None` if it has none.
pub fn header(path: &Path) -> Option<Header> {
    read_header(&mut BufReader::new(File::open(path).ok()?)).ok()
}

fn is_named_like_one(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let is_gguf = path
        .extension()
        .is_some_and(|extension| extension == "gguf");
    is_gguf && name.is_some_and(|name| name.to_ascii_lowercase().contains("mmproj"))
}

fn is_of_another(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let model = name.and_then(|name| name.strip_prefix(PREFIX));
    model.is_some_and(|model| path.with_file_name(model).is_file())
}

#[cfg(test)]
mod tests {
    use std::fs::copy;

    use hearth_gguf::synthetic::{Projector as Shape, Storage, make, make_projector};

    use super::*;

    #[test]
    fn the_projector_beside_a_model_has_its_name_or_is_the_only_one_that_fits() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = "1,64,64,2,1,300".parse().unwrap();
        make(&at("model.gguf"), text, Storage::Q4KM, 1, &mut |_, _| ()).unwrap();
        let found = || beside(&at("model.gguf"));
        assert_eq!(found(), None);
        let shape = Shape::named("tiny-gemma3").unwrap();
        make_projector(&at("mmproj-wrong.gguf"), shape.for_width(96), 1).unwrap();
        assert_eq!(found(), None, "it belongs to a wider model");
        make_projector(&at("mmproj-model-f16.gguf"), shape, 1).unwrap();
        assert_eq!(found(), Some(at("mmproj-model-f16.gguf")));
        copy(at("mmproj-model-f16.gguf"), at("mmproj-model-f32.gguf")).unwrap();
        assert_eq!(found(), None, "there are two");
        copy(at("model.gguf"), at("model-f32.gguf")).unwrap();
        assert_eq!(found(), Some(at("mmproj-model-f16.gguf")));
        copy(at("mmproj-model-f16.gguf"), at("mmproj-model.gguf")).unwrap();
        assert_eq!(found(), Some(at("mmproj-model.gguf")));
        let problem = |name: &str| check(&at(name), &at("model.gguf")).unwrap_err();
        let wrong = problem("mmproj-wrong.gguf");
        assert!(wrong.contains("96") && wrong.contains("64"), "{wrong}");
        assert!(problem("model.gguf").contains("mmproj"));
    }
}
