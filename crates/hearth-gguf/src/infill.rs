//! Whether a vocabulary has the tokens around a text that is to be filled in.

/// Tokens before the text in front of the gap, by the names that llama.cpp knows
/// (`llama_vocab::impl::load`).
const PREFIX: [&str; 8] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<\u{ff5c}fim\u{2581}begin\u{ff5c}>",
    "<PRE>",
    "\u{2581}<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];
/// Tokens before the text behind it.
const SUFFIX: [&str; 8] = [
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<\u{ff5c}fim\u{2581}hole\u{ff5c}>",
    "<SUF>",
    "\u{2581}<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];
/// Tokens before what the model writes.
const MIDDLE: [&str; 8] = [
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<\u{ff5c}fim\u{2581}end\u{ff5c}>",
    "<MID>",
    "\u{2581}<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// Which tokens for filling in text a vocabulary has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InfillMarks {
    prefix: bool,
    suffix: bool,
    middle: bool,
}

impl InfillMarks {
    /// Whether the model can fill in text: all three are there.
    pub fn is_complete(self) -> bool {
        self.prefix && self.suffix && self.middle
    }

    /// Notes a token of the vocabulary.
    pub(super) fn see_token(&mut self, token: &str) {
        self.prefix |= PREFIX.contains(&token);
        self.suffix |= SUFFIX.contains(&token);
        self.middle |= MIDDLE.contains(&token);
    }

    /// Notes a key that names such a token by its number; whether it is one.
    pub(super) fn see_key(&mut self, key: &str) -> bool {
        let mark = match key {
            "tokenizer.ggml.fim_pre_token_id" | "tokenizer.ggml.prefix_token_id" => {
                &mut self.prefix
            }
            "tokenizer.ggml.fim_suf_token_id" | "tokenizer.ggml.suffix_token_id" => {
                &mut self.suffix
            }
            "tokenizer.ggml.fim_mid_token_id" | "tokenizer.ggml.middle_token_id" => {
                &mut self.middle
            }
            _ => return false,
        };
        *mark = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_tokens_are_needed() {
        for names in (0..8).map(|n| [PREFIX[n], SUFFIX[n], MIDDLE[n]]) {
            let mut marks = InfillMarks::default();
            for name in names {
                assert!(!marks.is_complete());
                marks.see_token(name);
            }
            assert!(marks.is_complete(), "{names:?}");
        }
    }

    #[test]
    fn keys_name_them_too() {
        let mut marks = InfillMarks::default();
        assert!(marks.see_key("tokenizer.ggml.prefix_token_id"));
        assert!(marks.see_key("tokenizer.ggml.fim_suf_token_id"));
        assert!(!marks.see_key("tokenizer.ggml.eos_token_id") && !marks.is_complete());
        assert!(marks.see_key("tokenizer.ggml.middle_token_id") && marks.is_complete());
    }
}
