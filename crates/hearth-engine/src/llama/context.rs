//! A thin context, batch and decode over llama-cpp-sys-2.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use hearth_gguf::Header;
use hearth_gguf::fit::MICRO_BATCH;
use hearth_policy::scheduler::MemoryKind;
use hearth_proto::{KindFacts, KvType, Pooling};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::collector::{Collector, collect};
use super::lean::Mappings;
use super::memory::{memory_kind, seq_id};
use super::pool::Pool;
use crate::backend::{DecodeError, Part, Progress};

/// Flash attention where llama.cpp finds that it works; on CPUs it does.
pub(super) const FLASH: sys::llama_flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_AUTO;

/// One context with a KV cache for several sequences. It must not outlive its model:
/// the owner keeps both and drops this first.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) context: NonNull<sys::llama_context>,
    /// `None` where llama.cpp created no memory for the model.
    pub(super) memory: MemoryKind,
    batch: sys::llama_batch,
    batch_size: usize,
    vocab_size: usize,
    /// The threads for a batch, and those for a single token.
    threads: (u32, u32),
    threads_max: u32,
    /// Dropped after the context was freed (see `Drop`).
    pool: Option<Pool>,
    /// Read by the abort callback; kept alive as long as the context.
    _progress: Arc<Progress>,
    /// Called by ggml; kept alive as long as the context.
    _collector: Option<Arc<Collector>>,
}

/// The parameters of a context.
#[derive(Clone, Debug)]
pub(super) struct ContextParams {
    /// Tokens of the KV cache, for all sequences together.
    pub(super) kv_tokens: u32,
    /// The maximum number of sequences.
    pub(super) sequences: u32,
    pub(super) kv_type: KvType,
    /// The original context of the model; 0: as the file says.
    pub(super) context_original: u32,
    pub(super) threads_max: u32,
    /// The most tokens of a batch with logits; at least one for each sequence.
    pub(super) outputs: u32,
    /// See [`super::LlamaLoader::with_poll`].
    pub(super) poll: Option<u32>,
    /// Observes every matrix product.
    pub(super) collector: Option<Arc<Collector>>,
}

impl Context {
    /// Creates a context; `None` where llama.cpp cannot (memory, usually).
    pub(super) fn new(
        model: &LlamaModel,
        wanted: &ContextParams,
        progress: &Arc<Progress>,
    ) -> Option<Self> {
        let batch_size = MICRO_BATCH.min(wanted.kv_tokens);
        // SAFETY: returns a struct by value.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = wanted.kv_tokens;
        params.n_batch = batch_size;
        params.n_ubatch = batch_size;
        params.n_seq_max = wanted.sequences;
        // Sampling needs the logits of one token of each sequence; by default llama.cpp
        // allocates those of a whole batch, 77 MB with a vocabulary of 150,000.
        params.n_outputs_max = wanted.sequences.max(wanted.outputs).min(batch_size);
        params.n_threads = 1;
        params.n_threads_batch = 1;
        params.offload_kqv = false;
        params.op_offload = false;
        params.kv_unified = true;
        params.flash_attn_type = FLASH;
        params.yarn_orig_ctx = wanted.context_original;
        params.no_perf = true;
        params.type_k = match wanted.kv_type {
            KvType::F16 => sys::GGML_TYPE_F16,
            KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
        };
        params.abort_callback = Some(should_abort);
        params.abort_callback_data = Arc::as_ptr(progress).cast_mut().cast();
        if let Some(collector) = &wanted.collector {
            params.cb_eval = Some(collect);
            params.cb_eval_user_data = Arc::as_ptr(collector).cast_mut().cast();
        }
        let before = Mappings::now();
        // SAFETY: the model is valid and outlives this context (see the type).
        let context = unsafe { NonNull::new(sys::llama_init_from_model(raw(model), params))? };
        // SAFETY: the new mappings belong to the context, and no thread computes with it
        // yet.
        let unused = unsafe { Mappings::give_back_zeros(&before) };
        log::debug!("{} MiB of the context are unused so far", unused >> 20);
        let pool = wanted
            .poll
            .and_then(|poll| Pool::new(wanted.threads_max, poll));
        if let Some(pool) = &pool {
            // SAFETY: both are valid; the pool is freed after the context.
            unsafe {
                sys::llama_attach_threadpool(context.as_ptr(), pool.as_ptr(), pool.as_ptr());
            }
        } else if wanted.poll.is_some() {
            log::warn!("no thread pool: threads are made anew for every token");
        }
        let vocab_size = usize::try_from(model.n_vocab()).unwrap_or(0);
        // SAFETY: allocates arrays for `batch_size` tokens with one sequence each.
        let batch = unsafe { sys::llama_batch_init(batch_size.cast_signed(), 0, 1) };
        // SAFETY: the context is valid.
        let has_memory = unsafe { !sys::llama_get_memory(context.as_ptr()).is_null() };
        Some(Self {
            context,
            memory: if has_memory {
                memory_kind(model)
            } else {
                MemoryKind::None
            },
            batch,
            batch_size: batch_size as usize,
            vocab_size,
            threads: (1, 1),
            threads_max: pool.as_ref().map_or(wanted.threads_max, Pool::size).max(1),
            pool,
            _progress: Arc::clone(progress),
            _collector: wanted.collector.clone(),
        })
    }

    /// The context's size in tokens, as llama.cpp rounded it.
    pub(super) fn size(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { sys::llama_n_ctx(self.context.as_ptr()) }
    }

    /// What llama.cpp reports about the model's kind.
    pub(super) fn kind_facts(&self, model: &LlamaModel) -> KindFacts {
        let (context, model) = (self.context.as_ptr(), raw(model));
        // SAFETY: both are valid; each call only reads.
        unsafe {
            KindFacts {
                is_diffusion: sys::llama_model_is_diffusion(model),
                has_encoder: sys::llama_model_has_encoder(model),
                has_decoder: sys::llama_model_has_decoder(model),
                sees_all: sys::llama_get_memory(context).is_null()
                    || !sys::llama_get_causal_attn(context),
                pooling: Pooling::of(sys::llama_pooling_type(context)),
                ..KindFacts::default()
            }
        }
    }

    /// Its thread pool.
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// The number of threads for a batch, and for a single token.
    pub(super) fn threads(&self) -> (u32, u32) {
        self.threads
    }

    /// Sets the threads of the following decodes, at least 1 and at most the pool's size,
    /// and those for a single token (0: the same number).
    pub(super) fn set_threads(&mut self, threads: u32, decode: u32) {
        let threads = threads.clamp(1, self.threads_max);
        let decode = match decode {
            0 => threads,
            n => n.min(threads),
        };
        if (threads, decode) != self.threads {
            self.threads = (threads, decode);
            let (n, one) = (threads.cast_signed(), decode.cast_signed());
            // SAFETY: a plain store that the next micro-batch reads.
            unsafe { sys::llama_set_n_threads(self.context.as_ptr(), one, n) };
        }
    }

    /// The maximum number of tokens in a batch.
    pub(super) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Decodes a batch of at most [`Self::batch_size`] tokens.
    pub(super) fn decode(&mut self, parts: &[Part]) -> Result<(), DecodeError> {
        // An empty batch aborts the process, a larger one would write past the arrays.
        if parts.is_empty() || parts.len() > self.batch_size {
            return Err(DecodeError::Code(-1));
        }
        for (n, part) in parts.iter().enumerate() {
            // SAFETY: `n` < batch_size, the arrays' length; one sequence id each.
            unsafe {
                *self.batch.token.add(n) = part.token;
                *self.batch.pos.add(n) = part.position.cast_signed();
                *self.batch.n_seq_id.add(n) = 1;
                **self.batch.seq_id.add(n) = seq_id(part.seq);
                *self.batch.logits.add(n) = i8::from(part.samples);
            }
        }
        self.batch.n_tokens = i32::try_from(parts.len()).unwrap_or(0);
        // SAFETY: the batch holds 1 to batch_size tokens below the vocabulary's size
        // (they come from the tokenizer or the sampler).
        match unsafe { sys::llama_decode(self.context.as_ptr(), self.batch) } {
            0 => Ok(()),
            1 => Err(DecodeError::NoRoom),
            2 => Err(DecodeError::Aborted),
            code => Err(DecodeError::Code(code)),
        }
    }

    /// The logits after part number `part` of the last batch; empty where none were
    /// requested.
    pub(super) fn logits(&self, part: usize) -> &[f32] {
        let part = i32::try_from(part).unwrap_or(-1);
        // SAFETY: after a decode that asked for logits there, the pointer is to
        // `vocab_size` floats that stay until the next decode; else it is null.
        unsafe {
            let logits = sys::llama_get_logits_ith(self.context.as_ptr(), part);
            if logits.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts(logits, self.vocab_size)
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: each is freed once; the pool field drops after this body.
        unsafe {
            sys::llama_batch_free(self.batch);
            sys::llama_free(self.context.as_ptr());
        }
    }
}

/// Called by ggml between graph nodes, on a compute thread.
pub(super) unsafe extern "C" fn should_abort(progress: *mut c_void) -> bool {
    // SAFETY: the context's owner keeps the `Arc<Progress>` alive; its fields are
    // atomics, so a shared reference from any thread is fine.
    let progress = unsafe { &*progress.cast::<Progress>() };
    progress.tick();
    progress.is_abort()
}

/// llama.cpp's short description of a model, e.g. `llama 1B Q4_0`, but with the size that
/// the file states: llama.cpp guesses it from the number of layers, and reports 256
/// million parameters for a model of 135 million.
pub(super) fn describe(model: &LlamaModel, header: &Header) -> String {
    let mut text = [0u8; 128];
    // SAFETY: the model is valid; at most `len` bytes are written, with a NUL.
    unsafe { sys::llama_model_desc(raw(model), text.as_mut_ptr().cast(), text.len()) };
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    let text = String::from_utf8_lossy(&text[..end]);
    // Architecture, size, and a type that may have several words.
    let mut words = text.splitn(3, ' ');
    let (Some(architecture), Some(_), Some(rest)) = (words.next(), words.next(), words.next())
    else {
        return text.into_owned();
    };
    let size = size_name(&header.size_label, model.n_params());
    format!("{architecture} {size} {rest}")
}

/// The file's size label where it is plausible, else the number of parameters.
fn size_name(label: &str, parameters: u64) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if (1..=16).contains(&label.len()) && label.chars().all(is_name) {
        return label.to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "rounded anyway")]
    match parameters {
        1_000_000_000.. => format!("{:.1}B", parameters as f64 / 1e9),
        _ => format!("{}M", parameters.div_ceil(1_000_000)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_file_s_or_counted() {
        for (label, parameters, name) in [
            ("135M", 134_515_008, "135M"),
            ("8x7B", 46_700_000_000, "8x7B"),
            ("", 134_515_008, "135M"),
            ("", 1_543_714_304, "1.5B"),
            ("no size at all", 50_000, "1M"),
            ("0123456789abcdefg", 2_000_000, "2M"),
        ] {
            assert_eq!(size_name(label, parameters), name);
        }
    }
}
