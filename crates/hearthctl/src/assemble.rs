//! Complete files assembled from parts or extracted from other files: unnamed files in
//! the cache folder, so that nothing is left behind.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_gguf::{MergeError, merge};

use hearth_proto::FailureKind;

use crate::error::{CtlError, Result};
use crate::progress::Progress;
use crate::space;

/// Update interval of the progress bar.
const POLL: Duration = Duration::from_millis(200);
/// Bytes copied between two progress updates. The copy stays in the kernel, and shares
/// blocks if the file system supports that.
const STEP: u64 = 64 << 20;

/// The model that consists of `parts`, in order.
///
/// # Errors
/// `ModelInvalid`, `File`.
pub async fn merged(folder: &Path, parts: Vec<File>, progress: &Progress) -> Result<File> {
    let mut size = 0;
    for part in &parts {
        size += part.metadata()?.len();
    }
    let (out, mut to) = unnamed(folder, size)?;
    let path = folder.to_owned();
    in_background("merging the parts", progress, move |done| {
        merge(&parts, &mut to, |n, of| done.set(n, of)).map_err(|error| match error {
            MergeError::Write(source) => CtlError::File { path, source },
            error => CtlError::service(FailureKind::ModelInvalid, error.to_string()),
        })
    })
    .await?;
    Ok(out)
}

/// Extracts a file embedded in another one, given its offset and length.
///
/// # Errors
/// `File`.
pub async fn extracted(
    folder: &Path,
    (file, start, length): (File, u64, u64),
    progress: &Progress,
) -> Result<File> {
    let (out, mut to) = unnamed(folder, length)?;
    copy(
        "extracting the model",
        (file, start, length),
        progress,
        folder,
        move |step| io::copy(step, &mut to),
    )
    .await?;
    Ok(out)
}

/// Copies a file to a new name; an existing file is not replaced.
///
/// # Errors
/// `File`.
pub async fn copied(file: &File, output: &Path, progress: &Progress) -> Result {
    let fail = |source| CtlError::File {
        path: output.to_owned(),
        source,
    };
    let parent = output.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let length = file.metadata()?.len();
    space::check(parent, length)?;
    let named = tempfile::Builder::new()
        .prefix(".hearthctl-")
        // The usual mode of a new file; the umask applies.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(fail)?;
    let mut to = named.as_file().try_clone()?;
    let file = file.try_clone()?;
    copy(
        "writing",
        (file, 0, length),
        progress,
        output,
        move |step| io::copy(step, &mut to),
    )
    .await?;
    named.as_file().sync_all().map_err(fail)?;
    named.persist_noclobber(output).map_err(|e| fail(e.error))?;
    Ok(())
}

/// Two handles of an unnamed file, on a disk with room for this many bytes.
fn unnamed(folder: &Path, size: u64) -> Result<(File, File)> {
    space::check(folder, size)?;
    let out = tempfile::tempfile_in(folder).map_err(|source| CtlError::File {
        path: folder.to_owned(),
        source,
    })?;
    let to = out.try_clone()?;
    Ok((out, to))
}

async fn copy(
    what: &str,
    (mut file, start, length): (File, u64, u64),
    progress: &Progress,
    path: &Path,
    mut write: impl FnMut(&mut io::Take<&mut File>) -> io::Result<u64> + Send + 'static,
) -> Result {
    let path = path.to_owned();
    in_background(what, progress, move |done| {
        let fail = |source| CtlError::File {
            path: path.clone(),
            source,
        };
        file.seek(SeekFrom::Start(start)).map_err(fail)?;
        let mut copied = 0;
        while copied < length {
            let step = STEP.min(length - copied);
            let n = write(&mut (&mut file).take(step)).map_err(fail)?;
            if n == 0 {
                return Err(fail(io::ErrorKind::UnexpectedEof.into()));
            }
            copied += n;
            done.set(copied, length);
        }
        Ok(())
    })
    .await
}

/// Progress of an operation.
#[derive(Debug, Default)]
struct Done {
    bytes: AtomicU64,
    of: AtomicU64,
}

impl Done {
    fn set(&self, bytes: u64, of: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.of.store(of, Ordering::Relaxed);
    }
}

/// Runs blocking work beside the loop that watches for signals.
async fn in_background<T: Send + 'static>(
    what: &str,
    progress: &Progress,
    work: impl FnOnce(&Done) -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = Arc::new(Done::default());
    let theirs = Arc::clone(&done);
    let mut work = tokio::task::spawn_blocking(move || work(&theirs));
    loop {
        tokio::select! {
            result = &mut work => {
                return result.map_err(|e| CtlError::Unexpected(e.to_string()))?;
            }
            () = tokio::time::sleep(POLL) => {
                let [bytes, of] = [&done.bytes, &done.of].map(|n| n.load(Ordering::Relaxed));
                if of > 0 {
                    progress.bytes(what, bytes, of);
                }
            }
        }
    }
}
