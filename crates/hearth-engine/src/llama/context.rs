//! A thin context, batch and decode over llama-cpp-sys-2.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use hearth_proto::{EngineShape, KindFacts, KvType, Pooling};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::adapters::Adapters;
use super::collector::{Collector, collect};
use super::memory::KvMemory;
use super::pool::Pool;
use super::raw::{raw, seq_id};
use super::trim_unused::Mappings;
use crate::backend::{DecodeError, Part, Progress};

/// Flash attention where llama.cpp finds that it works; on CPUs it does.
pub(super) const FLASH: sys::llama_flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_AUTO;

/// One context with a KV cache for several sequences. It must not outlive its model:
/// the owner keeps both and drops this first.
#[derive(Debug)]
pub(super) struct Context {
    context: NonNull<sys::llama_context>,
    /// Used as long as the context only.
    memory: KvMemory,
    batch: sys::llama_batch,
    batch_size: usize,
    vocab_size: usize,
    /// The threads for a batch, and those for a single token.
    threads: (u32, u32),
    threads_max: u32,
    /// The numbers and scales of the adapters that are applied.
    applied: Vec<(usize, f32)>,
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
    /// The most tokens of a picture that is decoded as a whole; 0 where there are none.
    pub(super) whole_tokens: u32,
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
        let params = raw_params(wanted, progress);
        let batch_size = text_batch(wanted);
        let before = Mappings::now();
        // SAFETY: the model is valid and outlives this context (see the type).
        let context = unsafe { NonNull::new(sys::llama_init_from_model(raw(model), params))? };
        // SAFETY: the new mappings belong to the context, and no thread computes with it
        // yet.
        let unused = unsafe { Mappings::trim_unused(&before) };
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
            log::warn!("cannot create a thread pool: threads are created for every token");
        }
        let vocab_size = usize::try_from(model.n_vocab()).unwrap_or(0);
        // SAFETY: allocates arrays for `batch_size` tokens with one sequence each.
        let batch = unsafe { sys::llama_batch_init(batch_size.cast_signed(), 0, 1) };
        Some(Self {
            context,
            // SAFETY: the context is valid, and freed when this is dropped.
            memory: unsafe { KvMemory::new(context, model) },
            batch,
            batch_size: batch_size as usize,
            vocab_size,
            threads: (1, 1),
            threads_max: pool.as_ref().map_or(wanted.threads_max, Pool::size).max(1),
            applied: Vec::new(),
            pool,
            _progress: Arc::clone(progress),
            _collector: wanted.collector.clone(),
        })
    }

    /// The context itself.
    pub(super) fn raw(&self) -> NonNull<sys::llama_context> {
        self.context
    }

    /// Its memory of earlier tokens.
    pub(super) fn memory(&self) -> &KvMemory {
        &self.memory
    }

    /// Its memory of earlier tokens, to change it.
    pub(super) fn memory_mut(&mut self) -> &mut KvMemory {
        &mut self.memory
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

    /// Applies adapters of its model from the next decode on, and no others.
    pub(super) fn apply(&mut self, adapters: &Adapters, scales: &[(usize, f32)]) {
        if self.applied == scales {
            return;
        }
        self.applied = scales.to_vec();
        let (mut pointers, mut factors) = adapters.arguments(scales);
        // SAFETY: the context is valid, the adapters are those of its model and valid as long
        // as that; both arrays have the length that is passed, and are copied.
        unsafe {
            sys::llama_set_adapters_lora(
                self.context.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                factors.as_mut_ptr(),
            );
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

/// The most tokens of a batch of text.
fn text_batch(wanted: &ContextParams) -> u32 {
    EngineShape::DEFAULT.micro_batch.min(wanted.kv_tokens)
}

/// The parameters as llama.cpp takes them. They point to the progress and the collector, which
/// the context keeps.
fn raw_params(wanted: &ContextParams, progress: &Arc<Progress>) -> sys::llama_context_params {
    // llama.cpp takes an output of each sequence, whatever the context.
    let batch_size = text_batch(wanted)
        .max(wanted.whole_tokens.min(wanted.kv_tokens))
        .max(wanted.sequences);
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
    params
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
