//! Passes a model file to the service.

use std::fs::File;
use std::io::Seek as _;
use std::time::Duration;

use zbus::Fd;

use crate::bus::{self, Bus};
use crate::error::{CtlError, Result};
use crate::progress::Progress;
use crate::value::text;

/// Update interval of the progress bar.
const PROGRESS_POLL: Duration = Duration::from_millis(200);

/// Passes a complete file to the service and waits until it is verified; returns its
/// size.
///
/// # Errors
/// Those of the service.
pub async fn upload(bus: &Bus, name: &str, file: &File, progress: &Progress) -> Result<u64> {
    let size = file.metadata()?.len();
    progress.spin(&format!("importing {name}"));
    let options = bus::ends_with_us();
    let job = bus
        .store
        .start_import(name, Fd::from(file), &options)
        .await?;
    tokio::select! {
        imported = bus::finish(bus, &job, |_| ()) => imported?,
        never = watch_copy(file, size, progress) => never,
    };
    Ok(size)
}

/// Refuses a name that another model has, before a long operation.
///
/// # Errors
/// `Usage`, or that the service cannot be reached.
pub async fn name_is_free(bus: &Bus, name: &str) -> Result {
    let models = bus.store.list().await?;
    if models.iter().any(|model| text(model, "name") == name) {
        return Err(CtlError::Usage(format!(
            "a model {name:?} already exists: remove it first, or choose another name with --name"
        )));
    }
    Ok(())
}

/// Shows how far the service has read: its descriptor is a duplicate of ours and shares
/// the offset. If the service reads without changing the offset, the spinner stays.
async fn watch_copy<T>(mut file: &File, size: u64, progress: &Progress) -> T {
    while progress.is_shown() {
        tokio::time::sleep(PROGRESS_POLL).await;
        match file.stream_position() {
            Ok(position) if position >= size => progress.spin("checking the model"),
            Ok(position) if position > 0 => progress.bytes("copying", position, size),
            _ => {}
        }
    }
    std::future::pending().await
}
