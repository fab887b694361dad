//! Pointers and numbers as llama.cpp takes them.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

/// llama.cpp's number of a sequence, below `LLAMA_MAX_SEQ` (256).
pub(super) fn seq_id(seq: u32) -> sys::llama_seq_id {
    seq.min(255).cast_signed()
}

/// The pointer inside a model, which the safe crate does not expose.
pub(super) fn raw(model: &LlamaModel) -> *mut sys::llama_model {
    const {
        assert!(size_of::<LlamaModel>() == size_of::<*mut sys::llama_model>());
    }
    // SAFETY: `LlamaModel` is repr(transparent) over a non-null model pointer
    // (llama-cpp-2 0.1.160, pinned); the size is checked above.
    unsafe { *std::ptr::from_ref(model).cast() }
}
