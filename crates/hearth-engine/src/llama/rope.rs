//! Which rotation factors a model with two sets of them uses (`LongRoPE`: Phi 3 to 4 mini,
//! `MiniCPM`).
//!
//! llama.cpp takes those for a long context where the KV cache is larger than the context
//! that the model was made for first (`get_rope_factors` in llama-model.cpp). Ours is
//! larger than the context that was asked for, by the room for kept prompts: so where that
//! context is a short one, the model is told that it was made for one as large as the
//! cache.

use std::ffi::CString;
use std::pin::Pin;

use hearth_gguf::Header;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::params::kv_overrides::ParamOverrideValue;

/// A choice of factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Factors {
    /// What the file says.
    pub(super) context_original: u32,
    /// Whether the context that was asked for is longer.
    pub(super) are_long: bool,
}

impl Factors {
    /// The choice for a context of so many tokens; `None` where there is none.
    pub(super) fn of(header: &Header, context: u32) -> Option<Self> {
        let context_original = match header.context_original {
            0 => header.context_train,
            own => own,
        };
        header.has_long_factors.then_some(Self {
            context_original,
            are_long: context > context_original,
        })
    }

    /// Has llama.cpp choose alike with a cache of so many tokens.
    pub(super) fn impose(self, params: Pin<&mut LlamaModelParams>, arch: &str, kv_tokens: u32) {
        // llama.cpp rounds the cache up.
        let cells = u64::from(kv_tokens).next_multiple_of(256);
        if self.are_long || cells <= u64::from(self.context_original) {
            return;
        }
        let key = format!("{arch}.rope.scaling.original_context_length");
        // Longer keys than llama.cpp's buffer for them are no architecture of its own.
        if let Ok(key) = CString::new(key)
            && key.as_bytes_with_nul().len() <= KEY_MAX
        {
            params.append_kv_override(&key, ParamOverrideValue::Int(cells.cast_signed()));
        }
    }

    /// Its name in what saved states depend on.
    pub(super) fn name(factors: Option<Self>) -> &'static str {
        match factors {
            None => "one set",
            Some(Self { are_long: true, .. }) => "long",
            Some(_) => "short",
        }
    }
}

/// `llama_model_kv_override::key`.
const KEY_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_asked_for_chooses() {
        let mut header = Header {
            context_train: 131_072,
            context_original: 4096,
            ..Header::default()
        };
        assert_eq!(Factors::of(&header, 8192), None);
        header.has_long_factors = true;
        let are_long = |header: &Header, context| Factors::of(header, context).unwrap().are_long;
        assert!(!are_long(&header, 4096) && are_long(&header, 4097));
        header.context_original = 0;
        assert!(!are_long(&header, 131_072));
    }
}
