//! The LoRA adapters of a loaded model.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::ptr::NonNull;

use hearth_cache::fingerprint;
use hearth_gguf::Header;
use hearth_proto::AdapterFile;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::file::header;
use super::raw::raw;
use crate::backend::LoadedAdapter;

/// The adapters that a model was loaded with. llama.cpp frees them with the model.
#[derive(Debug, Default)]
pub(super) struct Adapters {
    known: Vec<LoadedAdapter>,
    /// Of the same number; `None` where it could not be loaded.
    raw: Vec<Option<NonNull<sys::llama_adapter_lora>>>,
}

impl Adapters {
    /// Loads adapters. One that cannot be loaded is left out with a warning; requests that name
    /// it are refused. Contexts are to be created afterwards: the size of their graphs depends
    /// on the adapters of the model.
    pub(super) fn load(model: &LlamaModel, base: &Header, files: &[AdapterFile]) -> Self {
        let mut adapters = Self::default();
        for file in files {
            let loaded = load(model, base, file);
            if let Err(problem) = &loaded {
                log::warn!("the adapter {} is not loaded: {problem}", file.name);
            }
            adapters.raw.push(loaded.as_ref().ok().map(|(raw, _)| *raw));
            adapters.known.push(LoadedAdapter {
                name: file.name.clone(),
                loaded: loaded.map(|(_, identity)| identity),
            });
        }
        adapters
    }

    /// All of them, in the order of the files.
    pub(super) fn known(&self) -> &[LoadedAdapter] {
        &self.known
    }

    /// The pointers and the scales of some, as llama.cpp takes them.
    pub(super) fn arguments(
        &self,
        scales: &[(usize, f32)],
    ) -> (Vec<*mut sys::llama_adapter_lora>, Vec<f32>) {
        let pointer = |at: usize| self.raw.get(at).copied().flatten();
        scales
            .iter()
            .filter_map(|(at, scale)| Some((pointer(*at)?.as_ptr(), *scale)))
            .unzip()
    }
}

fn load(
    model: &LlamaModel,
    base: &Header,
    file: &AdapterFile,
) -> Result<(NonNull<sys::llama_adapter_lora>, u128), String> {
    let adapter = header(&file.path).map_err(|failure| failure.message)?;
    adapter.check_base(base).map_err(|e| e.to_string())?;
    let identity = fingerprint(&file.path).map_err(|e| e.to_string())?;
    let path = CString::new(file.path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    _ = super::log::take_errors();
    // SAFETY: the model is valid, the path is a string that outlives the call. llama.cpp catches
    // its own exceptions and returns null. The adapter is valid as long as the model.
    let loaded = unsafe { sys::llama_adapter_lora_init(raw(model), path.as_ptr()) };
    let loaded = NonNull::new(loaded).ok_or_else(|| super::log::take_errors().join("; "))?;
    Ok((loaded, identity))
}
