//! A llamafile: an executable and a zip archive in one file, with the model stored
//! uncompressed.

use std::io::BufReader;
use std::path::Path;

use hearth_proto::FailureKind;
use zip::{CompressionMethod, ZipArchive};

use super::{Form, Found, choose, model_name, open};
use crate::error::{CtlError, Result};
use crate::pull::reference::is_gguf;

/// Finds the model in a llamafile.
pub fn find(path: &Path, wanted: Option<&str>) -> Result<Found> {
    let (file, size) = open(path)?;
    let invalid = |why: &str| {
        CtlError::service(
            FailureKind::ModelInvalid,
            format!("{}: {why}", path.display()),
        )
    };
    let broken = |e: zip::result::ZipError| invalid(&format!("cannot read the archive: {e}"));
    let mut archive = ZipArchive::new(BufReader::new(&file)).map_err(broken)?;
    let mut models = Vec::new();
    for n in 0..archive.len() {
        let entry = archive.by_index_raw(n).map_err(broken)?;
        if is_gguf(entry.name()) {
            let place = (entry.data_start(), entry.size(), entry.compression());
            models.push((entry.name().to_owned(), place));
        }
    }
    let same = |name: &str, wanted: &str| name == wanted || name.rsplit('/').next() == Some(wanted);
    let (name, (start, length, compression)) = choose(path, &models, wanted, same)?;
    let start = start.filter(|start| start.saturating_add(*length) <= size);
    let start = start.ok_or_else(|| invalid("the archive is truncated"))?;
    if *compression != CompressionMethod::Stored {
        return Err(invalid("the model is compressed: extract it with unzip"));
    }
    Ok(Found {
        name: model_name(Path::new(name))?,
        form: Form::Inside(file, start, *length),
        projector: None,
    })
}
