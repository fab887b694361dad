//! Selects the rotation factors of a model with two sets of them (`LongRoPE`: Phi 3 to 4
//! mini, `MiniCPM`).
//!
//! llama.cpp uses those for a long context where the KV cache is larger than the original
//! context of the model (`get_rope_factors` in llama-model.cpp). Our cache is larger than
//! the requested context, by the room for cached prefixes: so where the requested context
//! is short, the model's original context is overridden with the size of the cache.

use std::ffi::CString;
use std::pin::Pin;

use hearth_gguf::Header;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::params::kv_overrides::ParamOverrideValue;

/// A choice of factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Factors {
    /// The original context of the model, from the file.
    pub(super) context_original: u32,
    /// Whether the requested context is longer.
    pub(super) are_long: bool,
}

impl Factors {
    /// The choice for a context of `context` tokens; `None` where the model has one set.
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

    /// Makes llama.cpp choose the same factors with a cache of `kv_tokens` tokens.
    pub(super) fn impose(self, params: Pin<&mut LlamaModelParams>, arch: &str, kv_tokens: u32) {
        // llama.cpp rounds the cache up.
        let cells = u64::from(kv_tokens).next_multiple_of(256);
        if self.are_long || cells <= u64::from(self.context_original) {
            return;
        }
        let key = format!("{arch}.rope.scaling.original_context_length");
        // No architecture of llama.cpp has a key longer than its buffer for keys.
        if let Ok(key) = CString::new(key)
            && key.as_bytes_with_nul().len() <= KEY_MAX
        {
            params.append_kv_override(&key, ParamOverrideValue::Int(cells.cast_signed()));
        }
    }

    /// Its name in the settings that saved states depend on.
    pub(super) fn name(factors: Option<Self>) -> &'static str {
        match factors {
            None => "one set",
            Some(Self { are_long: true, .. }) => "long",
            Some(_) => "short",
        }
    }
}

/// The size of `llama_model_kv_override::key`.
const KEY_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requested_context_selects_the_factors() {
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
