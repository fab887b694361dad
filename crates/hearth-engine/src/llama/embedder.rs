//! Embeddings and scores: a second context over the same model, created at the first use.

use std::ptr::NonNull;
use std::sync::Arc;

use hearth_proto::{EngineShape, KindFacts, Pooling};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::context::should_abort;
use super::pool::Pool;
use super::raw::raw;
use crate::backend::{DecodeError, Progress, Token};

/// The longest text in tokens: typical texts are paragraphs, and their keys and values
/// take memory in addition to those of the answers.
const TOKENS_MAX: u32 = 2048;
/// Where a text is computed in one batch, the first context is for texts of this many
/// tokens: attention takes memory proportional to the square of the length.
const BATCH_FIRST: u32 = 512;

/// Where the vectors of a text's tokens are pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Here, from a text that was computed in parts.
    Here(Pooling),
    /// In llama.cpp, which needs the whole text in one batch: models without causal
    /// attention need that anyway, and scores are computed from the pooled vector.
    Inside,
}

/// A context for embeddings. It must not outlive its model or its pool: the owner
/// drops it first.
#[derive(Debug)]
pub(super) struct Embedder {
    context: NonNull<sys::llama_context>,
    batch: sys::llama_batch,
    batch_size: usize,
    /// The longest text for this context; a longer one needs another context.
    tokens_max: usize,
    width: usize,
    place: Place,
    /// The model has an encoder only.
    encodes: bool,
    _progress: Arc<Progress>,
}

impl Embedder {
    /// Creates the context for texts of at least `tokens` tokens; `None` where llama.cpp
    /// cannot (memory, usually). The facts are those of the model's first context.
    pub(super) fn new(
        model: &LlamaModel,
        facts: &KindFacts,
        tokens: usize,
        pool: Option<&Pool>,
        progress: &Arc<Progress>,
    ) -> Option<Self> {
        let encodes = facts.has_encoder && !facts.has_decoder;
        let place = if facts.sees_all || encodes || facts.pooling == Pooling::Rank {
            Place::Inside
        } else {
            Place::Here(facts.pooling)
        };
        let tokens_max = Self::tokens_max(model);
        let batch_size = if place == Place::Inside {
            let wanted = u32::try_from(tokens).unwrap_or(u32::MAX).min(tokens_max);
            wanted.next_power_of_two().max(BATCH_FIRST).min(tokens_max)
        } else {
            // A generative model also computes logits for each token.
            EngineShape::DEFAULT.micro_batch.min(tokens_max)
        };
        let mut params = raw_params(place, facts.pooling, batch_size, tokens_max);
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
        let width = match facts.pooling {
            // As llama.cpp's server: the score is that of the first label.
            Pooling::Rank => 1,
            _ => usize::try_from(width).unwrap_or(0),
        };
        Some(Self {
            context,
            batch,
            batch_size: batch_size as usize,
            tokens_max: params.n_ctx as usize,
            width,
            place,
            encodes,
            _progress: Arc::clone(progress),
        })
    }

    /// Whether a text of `tokens` tokens fits this context.
    pub(super) fn fits(&self, tokens: usize) -> bool {
        tokens <= self.tokens_max
    }

    /// The longest text of a model, in tokens.
    pub(super) fn tokens_max(model: &LlamaModel) -> u32 {
        model.n_ctx_train().clamp(1, TOKENS_MAX)
    }

    /// The vector of a text that [`Self::fits`], normalized to length one.
    pub(super) fn embed(
        &mut self,
        tokens: &[Token],
        threads: u32,
    ) -> Result<Vec<f32>, DecodeError> {
        let mut vector = self.pool(tokens, threads)?;
        let squares = vector.iter().map(|v| f64::from(*v).powi(2));
        let length = squares.sum::<f64>().sqrt();
        if !(length.is_finite() && length > 0.0) {
            return Err(DecodeError::Code(-3));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a vector of f32")]
        for value in &mut vector {
            *value = (f64::from(*value) / length) as f32;
        }
        Ok(vector)
    }

    /// The score of a query and a document, which together are a text that [`Self::fits`].
    /// Only for models with [`Pooling::Rank`].
    pub(super) fn rank(&mut self, tokens: &[Token], threads: u32) -> Result<f32, DecodeError> {
        let score = self.pool(tokens, threads)?.first().copied();
        score
            .filter(|score| score.is_finite())
            .ok_or(DecodeError::Code(-3))
    }

    /// The pooled vector of a text, as llama.cpp computes it.
    fn pool(&mut self, tokens: &[Token], threads: u32) -> Result<Vec<f32>, DecodeError> {
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
                let wanted = match self.place {
                    Place::Inside | Place::Here(Pooling::First) => done + n == 0,
                    Place::Here(Pooling::Last) => done + n + 1 == tokens.len(),
                    Place::Here(_) => true,
                };
                if wanted {
                    self.add(n, &mut sum)?;
                }
            }
            done += chunk.len();
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
        let context = self.context.as_ptr();
        // SAFETY: the batch holds 1 to batch_size tokens that the tokenizer made. For
        // models without a cache llama.cpp encodes instead of decoding.
        let code = unsafe {
            if self.encodes {
                sys::llama_encode(context, self.batch)
            } else {
                sys::llama_decode(context, self.batch)
            }
        };
        match code {
            0 => Ok(()),
            2 => Err(DecodeError::Aborted),
            code => Err(DecodeError::Code(code)),
        }
    }

    /// Adds the vector of token number `n` of the last batch, or of the whole text.
    fn add(&self, n: usize, sum: &mut [f32]) -> Result<(), DecodeError> {
        let n = i32::try_from(n).unwrap_or(-1);
        // SAFETY: after a decode with outputs for all tokens the pointer is to `width`
        // floats that stay until the next one, or null.
        let vector = unsafe {
            let context = self.context.as_ptr();
            let pointer = match self.place {
                Place::Inside => sys::llama_get_embeddings_seq(context, 0),
                Place::Here(_) => sys::llama_get_embeddings_ith(context, n),
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

/// The parameters as llama.cpp takes them, without the abort callback.
fn raw_params(
    place: Place,
    pooling: Pooling,
    batch_size: u32,
    tokens_max: u32,
) -> sys::llama_context_params {
    // SAFETY: returns a struct by value.
    let mut params = unsafe { sys::llama_context_default_params() };
    params.n_ctx = if place == Place::Inside {
        batch_size
    } else {
        tokens_max
    };
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
    params.pooling_type = match (place, pooling) {
        (Place::Here(_), _) => sys::LLAMA_POOLING_TYPE_NONE,
        // As the file says, or the mean where it says nothing.
        (Place::Inside, Pooling::None) => sys::LLAMA_POOLING_TYPE_MEAN,
        (Place::Inside, _) => sys::LLAMA_POOLING_TYPE_UNSPECIFIED,
    };
    params
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

#[cfg(test)]
mod tests;
