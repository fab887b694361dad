//! llama.cpp's memory of earlier tokens: copies, cuts, saves and restores it, and checks
//! what it really contains.
//!
//! llama.cpp overwrites keys and values that no later token of their sequence attends to
//! (`find_slot` in llama-kv-cache.cpp), cannot roll back a recurrent state, and reports
//! neither. So after each step the positions are compared with what the next token needs.

use std::ptr::NonNull;

use hearth_policy::scheduler::MemoryKind;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::raw::{raw, seq_id};

/// The memory of a context.
#[derive(Debug)]
pub(super) struct KvMemory {
    context: NonNull<sys::llama_context>,
    kind: MemoryKind,
}

impl KvMemory {
    /// The memory of a context of this model.
    ///
    /// # Safety
    /// The context is valid as long as this is used.
    pub(super) unsafe fn new(context: NonNull<sys::llama_context>, model: &LlamaModel) -> Self {
        // SAFETY: the context is valid.
        let has_memory = unsafe { !sys::llama_get_memory(context.as_ptr()).is_null() };
        let kind = if has_memory {
            memory_kind(model)
        } else {
            MemoryKind::None
        };
        Self { context, kind }
    }

    /// How it can be cut and shared; `None` where llama.cpp created no memory for the model.
    pub(super) fn kind(&self) -> MemoryKind {
        self.kind
    }

    fn memory_of(&self) -> sys::llama_memory_t {
        // SAFETY: the context is valid.
        unsafe { sys::llama_get_memory(self.context.as_ptr()) }
    }

    /// The first and the last position of a sequence; `None` where it is empty.
    pub(super) fn positions(&self, seq: u32) -> Option<(u32, u32)> {
        if self.kind == MemoryKind::None {
            return None;
        }
        // SAFETY: the memory is the context's, the sequence's number below LLAMA_MAX_SEQ.
        let (first, last) = unsafe {
            let memory = self.memory_of();
            (
                sys::llama_memory_seq_pos_min(memory, seq_id(seq)),
                sys::llama_memory_seq_pos_max(memory, seq_id(seq)),
            )
        };
        Some((u32::try_from(first).ok()?, u32::try_from(last).ok()?))
    }

    /// Whether the next token after the first `tokens` of a sequence can be computed.
    pub(super) fn is_usable(&self, seq: u32, tokens: u32) -> bool {
        let positions = self.positions(seq);
        positions.is_some_and(|(first, last)| self.kind.is_usable(first, last, tokens))
    }

    /// Removes a sequence's tokens from `position` on; `false` where llama.cpp cannot.
    pub(super) fn remove(&mut self, seq: u32, position: u32) -> bool {
        if self.kind == MemoryKind::None {
            return true;
        }
        // SAFETY: as in `positions`.
        unsafe {
            let memory = self.memory_of();
            sys::llama_memory_seq_rm(memory, seq_id(seq), position.cast_signed(), -1)
        }
    }

    /// Makes the first `tokens` of sequence `from` belong to `to` as well, if they are
    /// usable.
    pub(super) fn share(&mut self, from: u32, to: u32, tokens: u32) -> bool {
        if !self.is_usable(from, tokens) {
            return false;
        }
        // SAFETY: as in `positions`.
        unsafe {
            let memory = self.memory_of();
            sys::llama_memory_seq_cp(memory, seq_id(from), seq_id(to), 0, tokens.cast_signed());
        }
        self.keep_if(to, tokens)
    }

    /// Removes a sequence unless it ends after `tokens` tokens and is usable there.
    fn keep_if(&mut self, seq: u32, tokens: u32) -> bool {
        let is_whole = self.is_usable(seq, tokens)
            && self
                .positions(seq)
                .is_some_and(|(_, last)| last + 1 == tokens);
        if !is_whole {
            self.remove(seq, 0);
        }
        is_whole
    }

    /// Clears the memory; its data are not overwritten, so that no page is written to.
    pub(super) fn clear(&mut self) {
        if self.kind != MemoryKind::None {
            // SAFETY: as in `positions`.
            unsafe { sys::llama_memory_clear(self.memory_of(), false) };
        }
    }

    /// Serializes a sequence of `tokens` tokens; empty where it is not usable.
    pub(super) fn save(&mut self, seq: u32, tokens: u32) -> Vec<u8> {
        if !self.is_usable(seq, tokens) {
            return Vec::new();
        }
        // SAFETY: the context is valid; the buffer has the length that is passed.
        unsafe {
            let context = self.context.as_ptr();
            let mut bytes = vec![0; sys::llama_state_seq_get_size(context, seq_id(seq))];
            let written = sys::llama_state_seq_get_data(
                context,
                bytes.as_mut_ptr(),
                bytes.len(),
                seq_id(seq),
            );
            bytes.truncate(written);
            bytes
        }
    }

    /// Restores a saved sequence of `tokens` tokens into an empty one.
    pub(super) fn restore(&mut self, seq: u32, saved: &[u8], tokens: u32) -> bool {
        // SAFETY: the buffer has the length that is passed; its contents come from
        // `save` of the same llama.cpp and model, which the cache's checksums prove.
        let taken = unsafe {
            let context = self.context.as_ptr();
            sys::llama_state_seq_set_data(context, saved.as_ptr(), saved.len(), seq_id(seq))
        };
        let is_whole = self.keep_if(seq, tokens);
        if is_whole && taken != saved.len() {
            self.remove(seq, 0);
        }
        is_whole && taken == saved.len()
    }
}

/// How a model's memory can be cut and shared, if it has one.
fn memory_kind(model: &LlamaModel) -> MemoryKind {
    // SAFETY: the model is valid.
    let (has_state, window) = unsafe {
        let model = raw(model);
        let has_state = sys::llama_model_is_recurrent(model) || sys::llama_model_is_hybrid(model);
        (has_state, sys::llama_model_n_swa(model))
    };
    match u32::try_from(window) {
        _ if has_state => MemoryKind::Recurrent,
        Ok(window_tokens) if window_tokens > 0 => MemoryKind::SlidingWindow { window_tokens },
        _ => MemoryKind::Full,
    }
}
