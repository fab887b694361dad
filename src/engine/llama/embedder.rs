//! Embeddings: a second context over the same model, made at the first use.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::context::{raw, should_abort};
use super::pool::Pool;
use crate::engine::backend::{DecodeError, Progress, Token};
use crate::fit::MICRO_BATCH;

/// The longest text in tokens: what is embedded is a paragraph, not a book, and its
/// keys and values take memory beside those of the answers.
const TOKENS_MAX: u32 = 2048;

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pooling {
    /// Their mean.
    Mean,
    /// The first one's.
    First,
    /// The last one's.
    Last,
    /// llama.cpp does it, which needs the whole text in one batch: models that look
    /// at all tokens at once do anyway.
    Inside,
}

/// A context for embeddings. It must not outlive its model or its pool: the owner
/// drops it first.
#[derive(Debug)]
pub(super) struct Embedder {
    context: NonNull<sys::llama_context>,
    batch: sys::llama_batch,
    batch_size: usize,
    width: usize,
    pooling: Pooling,
    _progress: Arc<Progress>,
}

impl Embedder {
    /// Makes the context; `None` where llama.cpp cannot (memory, usually).
    pub(super) fn new(
        model: &LlamaModel,
        pool: Option<&Pool>,
        progress: &Arc<Progress>,
    ) -> Option<Self> {
        let arch = model.meta_val_str("general.architecture").ok()?;
        let meta = |key: &str| model.meta_val_str(&format!("{arch}.{key}")).ok();
        let sees_all = meta("attention.causal").as_deref() == Some("false");
        // The numbers are llama.cpp's LLAMA_POOLING_TYPE_*.
        let pooling = match meta("pooling_type").as_deref() {
            _ if sees_all => Pooling::Inside,
            Some("2") => Pooling::First,
            Some("3") => Pooling::Last,
            _ => Pooling::Mean,
        };
        let tokens_max = Self::tokens_max(model);
        let batch_size = if pooling == Pooling::Inside {
            tokens_max
        } else {
            // A generating model computes logits for each of them, too.
            MICRO_BATCH.min(tokens_max)
        };
        // SAFETY: returns a struct by value.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = tokens_max;
        params.n_batch = batch_size;
        params.n_ubatch = batch_size;
        params.n_outputs_max_per_seq = batch_size;
        params.n_seq_max = 1;
        params.n_threads = 1;
        params.n_threads_batch = 1;
        params.offload_kqv = false;
        params.op_offload = false;
        params.no_perf = true;
        params.embeddings = true;
        params.pooling_type = match pooling {
            Pooling::Inside => sys::LLAMA_POOLING_TYPE_UNSPECIFIED,
            _ => sys::LLAMA_POOLING_TYPE_NONE,
        };
        params.abort_callback = Some(should_abort);
        params.abort_callback_data = Arc::as_ptr(progress).cast_mut().cast();
        // SAFETY: the model is valid and outlives this context (see the type).
        let context = unsafe { NonNull::new(sys::llama_init_from_model(raw(model), params))? };
        if let Some(pool) = pool {
            // SAFETY: both are valid; only one context computes at a time, and the pool
            // is freed after both.
            unsafe {
                sys::llama_attach_threadpool(context.as_ptr(), pool.as_ptr(), pool.as_ptr());
            }
        }
        // SAFETY: allocates arrays for `batch_size` tokens with one sequence each.
        let batch = unsafe { sys::llama_batch_init(batch_size.cast_signed(), 0, 1) };
        // SAFETY: the model is valid.
        let width = unsafe { sys::llama_model_n_embd_out(raw(model)) };
        Some(Self {
            context,
            batch,
            batch_size: batch_size as usize,
            width: usize::try_from(width).unwrap_or(0),
            pooling,
            _progress: Arc::clone(progress),
        })
    }

    /// The longest text of a model, in tokens.
    pub(super) fn tokens_max(model: &LlamaModel) -> u32 {
        model.n_ctx_train().clamp(1, TOKENS_MAX)
    }

    /// The vector of a text of 1 to [`Self::tokens_max`] tokens, with length one.
    pub(super) fn embed(
        &mut self,
        tokens: &[Token],
        threads: u32,
    ) -> Result<Vec<f32>, DecodeError> {
        let n = threads.max(1).cast_signed();
        // SAFETY: the context is valid; the cache is emptied of the last text, where the
        // model has one.
        unsafe {
            sys::llama_set_n_threads(self.context.as_ptr(), n, n);
            let memory = sys::llama_get_memory(self.context.as_ptr());
            if !memory.is_null() {
                sys::llama_memory_clear(memory, false);
            }
        }
        let mut sum = vec![0.0; self.width];
        let mut done = 0;
        for chunk in tokens.chunks(self.batch_size) {
            self.decode(chunk, done)?;
            for n in 0..chunk.len() {
                let wanted = match self.pooling {
                    Pooling::Mean => true,
                    Pooling::First | Pooling::Inside => done + n == 0,
                    Pooling::Last => done + n + 1 == tokens.len(),
                };
                if wanted {
                    self.add(n, &mut sum)?;
                }
            }
            done += chunk.len();
        }
        let length = sum
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt();
        if !(length.is_finite() && length > 0.0) {
            return Err(DecodeError::Code(-3));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a vector of f32")]
        for value in &mut sum {
            *value = (f64::from(*value) / length) as f32;
        }
        Ok(sum)
    }

    fn decode(&mut self, tokens: &[Token], from: usize) -> Result<(), DecodeError> {
        for (n, token) in tokens.iter().enumerate() {
            // SAFETY: `n` < batch_size, the arrays' length; one sequence id each.
            unsafe {
                *self.batch.token.add(n) = *token;
                *self.batch.pos.add(n) = i32::try_from(from + n).unwrap_or(i32::MAX);
                *self.batch.n_seq_id.add(n) = 1;
                **self.batch.seq_id.add(n) = 0;
                *self.batch.logits.add(n) = 1;
            }
        }
        self.batch.n_tokens = i32::try_from(tokens.len()).unwrap_or(0);
        // SAFETY: the batch holds 1 to batch_size tokens that the tokenizer made. For
        // models without a cache llama.cpp encodes instead.
        match unsafe { sys::llama_decode(self.context.as_ptr(), self.batch) } {
            0 => Ok(()),
            2 => Err(DecodeError::Aborted),
            code => Err(DecodeError::Code(code)),
        }
    }

    /// Adds the vector of token number `n` of the last batch, or of all the text.
    fn add(&self, n: usize, sum: &mut [f32]) -> Result<(), DecodeError> {
        let n = i32::try_from(n).unwrap_or(-1);
        // SAFETY: after a decode with outputs for all tokens the pointer is to `width`
        // floats that stay until the next one, or null.
        let vector = unsafe {
            let context = self.context.as_ptr();
            let pointer = match self.pooling {
                Pooling::Inside => sys::llama_get_embeddings_seq(context, 0),
                _ => sys::llama_get_embeddings_ith(context, n),
            };
            if pointer.is_null() {
                return Err(DecodeError::Code(-3));
            }
            std::slice::from_raw_parts(pointer, self.width)
        };
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += value;
        }
        Ok(())
    }
}

impl Drop for Embedder {
    fn drop(&mut self) {
        // SAFETY: each is freed once, before model and pool.
        unsafe {
            sys::llama_batch_free(self.batch);
            sys::llama_free(self.context.as_ptr());
        }
    }
}
