//! The adapters that a model is loaded with, and their part of the memory.

use hearth_proto::AdapterFile;
use hearth_proto::reading::Memory;
use hearth_proto::units::Bytes;

use super::load::Admitted;
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
    let bytes = size(&adapters);
    admitted.add_memory(bytes, bytes);
    admitted.request.adapters = adapters;
}
