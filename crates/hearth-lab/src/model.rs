//! Files that offline work reads: models and texts.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use hearth_gguf::{Header, read_header};
use hearth_proto::{Failure, FailureKind};

use crate::error::{LabError, Result};

/// The longest text for a model: tokenizing more takes a minute without any progress
/// shown.
const TEXT_BYTES_MAX: u64 = 8 << 20;

/// Reads the header of a model file.
///
/// # Errors
/// `File`, or `Failure` with `ModelInvalid`.
pub fn header(path: &Path) -> Result<Header> {
    let fail = |source: io::Error| LabError::file(path, source);
    let file = File::open(path).map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(fail(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a file",
        )));
    }
    read_header(&mut BufReader::new(file)).map_err(|error| {
        let message = format!("{}: {error}; get the file again", path.display());
        Failure::new(FailureKind::ModelInvalid, message).into()
    })
}

/// Reads a text for a model, unmodified.
///
/// # Errors
/// `File`, or `Request` if the text is too long.
pub fn text(path: &Path) -> Result<String> {
    let failed = |source| LabError::file(path, source);
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > TEXT_BYTES_MAX {
        return Err(LabError::Request(format!(
            "{} has {bytes} bytes: a text may have at most {TEXT_BYTES_MAX}",
            path.display()
        )));
    }
    fs::read_to_string(path).map_err(failed)
}

/// The name of a file without `.gguf`.
pub fn name(path: &Path) -> String {
    let name = path.file_stem().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Bits of a file per weight of its model.
pub fn bits_per_weight(file_bytes: u64, parameters: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
    let (bits, weights) = (file_bytes as f64 * 8.0, parameters.max(1) as f64);
    bits / weights
}
