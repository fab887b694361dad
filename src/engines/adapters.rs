//! The adapters that a model is loaded with, and their part of the memory.

use hearth_proto::AdapterFile;
use hearth_proto::reading::Memory;
use hearth_proto::units::Bytes;

use super::load::{Admitted, Fit};
use crate::models::ModelIndex;

/// The adapters that fit a model.
pub(super) fn files(index: &ModelIndex, model: &str) -> Vec<AdapterFile> {
    let adapters = index.adapters_of(model).into_iter();
    adapters
        .map(|adapter| AdapterFile {
            name: adapter.name.clone(),
            path: adapter.path.clone(),
            bytes: adapter.size_bytes,
        })
        .collect()
}

/// The memory that they take.
pub(super) fn size(adapters: &[AdapterFile]) -> Bytes {
    Bytes(adapters.iter().map(|adapter| adapter.bytes).sum())
}

/// Takes their memory from what is free.
pub(super) fn reserve(memory: &mut Memory, bytes: Bytes) {
    if let Some(available) = &mut memory.available {
        available.0 = available.0.saturating_sub(bytes.0);
    }
    if let Some(current) = &mut memory.cgroup_current {
        current.0 = current.0.saturating_add(bytes.0);
    }
}

/// Adds adapters to what is loaded.
pub(super) fn add(admitted: &mut Admitted, adapters: Vec<AdapterFile>) {
    let Bytes(bytes) = size(&adapters);
    admitted.estimate.0 += bytes;
    if let Some(most) = &mut admitted.request.memory_max {
        *most = most.saturating_add(bytes);
    }
    admitted.request.adapters = adapters;
}

/// Notes that adapters of this size were left out, if the model fits without them.
pub(super) fn left_out(fit: Fit, bytes: Bytes) -> Fit {
    let (mut admitted, missing) = match fit {
        Fit::Whole(admitted) => (admitted, Bytes(0)),
        Fit::Reduced { admitted, missing } => (admitted, missing),
        none @ Fit::None { .. } => return none,
    };
    admitted.add_note(&format!("without its adapters ({bytes}): memory is short"));
    Fit::Reduced {
        admitted,
        missing: Bytes(missing.0 + bytes.0),
    }
}
