//! llama.cpp's samplers over llama-cpp-sys-2, one by one: the safe crate lacks
//! `adaptive_p`, and panics on texts with a NUL.

use std::ffi::CString;
use std::ptr::NonNull;

use hearth_proto::{LAST_N_MAX, SamplerName, Sampling};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::raw::raw;
use crate::backend::Token;

/// Candidates that Mirostat 1 uses for its estimate (m in the paper and in llama.cpp).
const MIROSTAT_CANDIDATES: i32 = 100;
/// The next value is `LLAMA_DEFAULT_SEED`, for which llama.cpp draws a random seed.
const SEED_MAX: u32 = u32::MAX - 1;
/// llama.cpp's default sequence breakers.
const BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// The tokens that can still be chosen.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    data: Vec<sys::llama_token_data>,
    is_sorted: bool,
    selected: Option<usize>,
}

impl Candidates {
    /// Refills the list with all allowed tokens. NaN would break the order that the
    /// samplers sort by, and masked tokens need not be sorted.
    pub(super) fn fill(&mut self, logits: &[f32]) {
        self.data.clear();
        let able = (0..).zip(logits).filter(|(_, l)| **l > f32::NEG_INFINITY);
        self.data
            .extend(able.map(|(id, logit)| sys::llama_token_data {
                id,
                logit: *logit,
                p: 0.0,
            }));
        self.is_sorted = false;
        self.selected = None;
    }

    /// Tokens and their logits, in the order that the samplers left them in.
    pub(super) fn all(&self) -> impl Iterator<Item = (Token, f32)> {
        self.data.iter().map(|c| (c.id, c.logit))
    }

    /// The token that a sampler chose.
    pub(super) fn selected(&self) -> Option<Token> {
        Some(self.data.get(self.selected?)?.id)
    }

    pub(super) fn len(&self) -> usize {
        self.data.len()
    }
}

/// One of llama.cpp's samplers.
#[derive(Debug)]
pub(super) struct Stage(NonNull<sys::llama_sampler>);

impl Stage {
    /// The sampler of this name with the values of `s`; `None` where it would do nothing.
    /// The caller handles `xtc_probability`: this sampler always applies.
    pub(super) fn new(name: SamplerName, model: Option<&LlamaModel>, s: &Sampling) -> Option<Self> {
        let keep = s.min_keep.unwrap_or(0) as usize;
        let is_below = |value: Option<f32>, off: f32| value.filter(|v| *v < off);
        let is_above = |value: Option<f32>, off: f32| value.filter(|v| *v > off);
        // SAFETY: each takes numbers and returns a new sampler or null.
        let pointer = unsafe {
            match name {
                SamplerName::Penalties => return Self::penalties(model, s),
                SamplerName::Dry => return Self::dry(model?, s),
                SamplerName::Infill => return Self::infill(model?),
                SamplerName::AdaptiveP => return None,
                SamplerName::TopK => {
                    let k = s.top_k.filter(|k| *k > 0)?;
                    sys::llama_sampler_init_top_k(i32::try_from(k).unwrap_or(i32::MAX))
                }
                SamplerName::TopNSigma => {
                    sys::llama_sampler_init_top_n_sigma(is_above(s.top_n_sigma, 0.0)?)
                }
                SamplerName::TypP => {
                    sys::llama_sampler_init_typical(is_below(s.typical_p, 1.0)?, keep)
                }
                SamplerName::TopP => sys::llama_sampler_init_top_p(is_below(s.top_p, 1.0)?, keep),
                SamplerName::MinP => sys::llama_sampler_init_min_p(is_above(s.min_p, 0.0)?, keep),
                SamplerName::Xtc => {
                    is_above(s.xtc_probability, 0.0)?;
                    let threshold = s.xtc_threshold.unwrap_or(0.1);
                    if threshold > 0.5 {
                        return None;
                    }
                    sys::llama_sampler_init_xtc(1.0, threshold, keep, 0)
                }
                SamplerName::Temperature => sys::llama_sampler_init_temp_ext(
                    s.temperature.unwrap_or(0.0),
                    s.dynatemp_range.unwrap_or(0.0),
                    s.dynatemp_exponent.unwrap_or(1.0),
                ),
            }
        };
        NonNull::new(pointer).map(Self)
    }

    fn penalties(model: Option<&LlamaModel>, s: &Sampling) -> Option<Self> {
        let repeat = s.repeat_penalty.unwrap_or(1.0);
        let presence = s.presence_penalty.unwrap_or(0.0);
        let frequency = s.frequency_penalty.unwrap_or(0.0);
        #[expect(clippy::float_cmp, reason = "exactly the neutral values switch it off")]
        let is_neutral = repeat == 1.0 && presence == 0.0 && frequency == 0.0;
        let window = window(s.repeat_last_n.unwrap_or(64));
        if is_neutral || window == 0 {
            return None;
        }
        let vocab = model.map_or(0, LlamaModel::n_vocab);
        // SAFETY: takes numbers only.
        let pointer = unsafe {
            sys::llama_sampler_init_penalties(vocab, window, repeat, frequency, presence)
        };
        NonNull::new(pointer).map(Self)
    }

    fn dry(model: &LlamaModel, s: &Sampling) -> Option<Self> {
        let multiplier = s.dry_multiplier.filter(|m| *m > 0.0)?;
        let base = s.dry_base.unwrap_or(1.75);
        let window = window(s.dry_penalty_last_n.unwrap_or(64));
        if base < 1.0 || window == 0 {
            return None;
        }
        let breakers: Vec<CString> = match &s.dry_sequence_breakers {
            Some(own) => own
                .iter()
                .filter_map(|b| CString::new(b.as_str()).ok())
                .collect(),
            None => BREAKERS
                .iter()
                .filter_map(|b| CString::new(*b).ok())
                .collect(),
        };
        let mut pointers: Vec<_> = breakers.iter().map(|b| b.as_ptr()).collect();
        let allowed = s.dry_allowed_length.unwrap_or(2);
        // SAFETY: the model is valid, and its vocabulary is read here only; the texts are
        // copied before this returns.
        let pointer = unsafe {
            sys::llama_sampler_init_dry(
                sys::llama_model_get_vocab(raw(model)),
                multiplier,
                base,
                i32::try_from(allowed).unwrap_or(i32::MAX),
                window,
                pointers.as_mut_ptr(),
                pointers.len(),
            )
        };
        NonNull::new(pointer).map(Self)
    }

    /// `None` where the model has neither an EOT nor an EOS token: the sampler would
    /// abort.
    fn infill(model: &LlamaModel) -> Option<Self> {
        // SAFETY: the model is valid, and outlives the sampler that its owner creates.
        let pointer = unsafe {
            let vocab = sys::llama_model_get_vocab(raw(model));
            if sys::llama_vocab_eot(vocab) < 0 && sys::llama_vocab_eos(vocab) < 0 {
                return None;
            }
            sys::llama_sampler_init_infill(vocab)
        };
        NonNull::new(pointer).map(Self)
    }

    /// The sampler that chooses a token by itself: Mirostat 1 or 2, or `adaptive_p`.
    pub(super) fn choosing(model: Option<&LlamaModel>, s: &Sampling, seed: u32) -> Option<Self> {
        let seed = seed.min(SEED_MAX);
        let (tau, eta) = (s.mirostat_tau.unwrap_or(5.0), s.mirostat_eta.unwrap_or(0.1));
        let is_adaptive = (s.samplers.iter().flatten()).any(|n| *n == SamplerName::AdaptiveP);
        let vocab = model.map_or(0, LlamaModel::n_vocab);
        // SAFETY: each takes numbers and returns a new sampler or null.
        let pointer = unsafe {
            match s.mirostat.unwrap_or(0) {
                1 => sys::llama_sampler_init_mirostat(vocab, seed, tau, eta, MIROSTAT_CANDIDATES),
                2 => sys::llama_sampler_init_mirostat_v2(seed, tau, eta),
                _ if is_adaptive => sys::llama_sampler_init_adaptive_p(
                    s.adaptive_target.unwrap_or(-1.0),
                    s.adaptive_decay.unwrap_or(0.9),
                    seed,
                ),
                _ => return None,
            }
        };
        NonNull::new(pointer).map(Self)
    }

    /// Applies it to the candidates; does nothing where there are none.
    pub(super) fn apply(&mut self, candidates: &mut Candidates) {
        let data = candidates.data.as_mut_ptr();
        let mut array = sys::llama_token_data_array {
            data,
            size: candidates.data.len(),
            selected: -1,
            sorted: candidates.is_sorted,
        };
        if array.size == 0 {
            return;
        }
        // SAFETY: the sampler is valid. It leaves a part of the given array, which may
        // begin later (XTC) but never ends later.
        unsafe {
            sys::llama_sampler_apply(self.0.as_ptr(), &raw mut array);
            std::ptr::copy(array.data, data, array.size);
            candidates.data.set_len(array.size);
        }
        candidates.is_sorted = array.sorted;
        candidates.selected = usize::try_from(array.selected).ok();
    }

    /// Passes it a token that precedes its next choice.
    pub(super) fn accept(&mut self, token: Token) {
        // SAFETY: the sampler is valid; the token is one of the vocabulary.
        unsafe { sys::llama_sampler_accept(self.0.as_ptr(), token) }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // SAFETY: it is freed once.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) }
    }
}

/// A look-back window, limited because llama.cpp allocates it at once.
fn window(tokens: u32) -> i32 {
    tokens.min(LAST_N_MAX).cast_signed()
}
