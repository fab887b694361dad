//! The model file, as far as llama.cpp does not report what is wrong with it.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _};
use std::path::Path;

use hearth_gguf::{Header, read_header};
use hearth_proto::{Failure, FailureKind};

/// Checks that the file is a GGUF file, which llama.cpp's loader would report only in its
/// log.
pub(super) fn check_header(path: &Path) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        let (kind, next) = if error.kind() == ErrorKind::NotFound {
            (FailureKind::ModelNotFound, "import it, or name another")
        } else {
            (FailureKind::Io, "make it readable for the service")
        };
        Failure::new(
            kind,
            format!(
                "cannot read the model file {}: {error}; {next}",
                path.display()
            ),
        )
    };
    let mut file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(invalid(path, "it is not a regular file"));
    }
    let mut magic = Vec::new();
    file.by_ref()
        .take(4)
        .read_to_end(&mut magic)
        .map_err(cannot)?;
    if magic == b"GGUF" {
        return Ok(());
    }
    Err(invalid(
        path,
        &if magic.is_empty() {
            "it is not a GGUF file (it is empty)".to_owned()
        } else {
            let begin = magic.escape_ascii();
            format!("it is not a GGUF file (it starts with \"{begin}\" instead of \"GGUF\")")
        },
    ))
}

/// The header, for what llama.cpp does not report.
///
/// # Errors
/// `ModelNotFound`, `Io`, `ModelInvalid`.
pub(crate) fn header(path: &Path) -> Result<Header, Failure> {
    check_header(path)?;
    let read = File::open(path).map_err(Into::into);
    let read = read.and_then(|file| read_header(&mut BufReader::new(file)));
    read.map_err(|error| invalid(path, &error.to_string()))
}

pub(super) fn invalid(path: &Path, why: &str) -> Failure {
    let why = if why.is_empty() {
        "llama.cpp cannot load it"
    } else {
        why
    };
    Failure::new(
        FailureKind::ModelInvalid,
        format!(
            "{} is not a usable model: {why}; get the file again",
            path.display()
        ),
    )
}
