//! Kinds of model memory of earlier tokens, and which parts of it can be reused.

/// How a model's memory of a sequence can be cut and shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryKind {
    /// Keys and values of every token: a sequence can be cut after any of them.
    #[default]
    Full,
    /// Some blocks attend only to the last tokens (Gemma, gpt-oss). Keys and values before
    /// the window may be overwritten at any time, so that a sequence is guaranteed to be
    /// usable only at its end.
    SlidingWindow {
        /// Tokens that a token attends to, itself included.
        window_tokens: u32,
    },
    /// At least one block has a state that every token changes (Mamba, LFM2, Qwen3.5): it
    /// cannot be rolled back, and a sequence is only usable whole.
    Recurrent,
    /// No memory (BERT): nothing is kept.
    None,
}

impl MemoryKind {
    /// Whether a sequence can become part of another one.
    pub fn can_share(self) -> bool {
        self != Self::None
    }

    /// Whether tokens at the end of a sequence can be removed. If not, all sequences in a
    /// batch that fails are lost.
    pub fn can_roll_back(self) -> bool {
        matches!(self, Self::Full | Self::SlidingWindow { .. })
    }

    /// Whether a sequence of this many tokens can be cut anywhere, whatever happens to the
    /// other sequences.
    pub fn can_cut(self, tokens: usize) -> bool {
        match self {
            Self::Full => true,
            Self::SlidingWindow { window_tokens } => tokens <= window_tokens as usize,
            Self::Recurrent | Self::None => false,
        }
    }

    /// Whether copies have to be made where prompts are likely to diverge, since a longer
    /// sequence cannot be used for its prefixes.
    pub fn needs_checkpoints(self) -> bool {
        matches!(self, Self::SlidingWindow { .. } | Self::Recurrent)
    }

    /// The first position that must be in memory so that a token at position `next` can
    /// be computed.
    pub fn first_needed(self, next: u32) -> u32 {
        match self {
            Self::SlidingWindow { window_tokens } => (next + 1).saturating_sub(window_tokens),
            Self::Full | Self::Recurrent | Self::None => 0,
        }
    }

    /// Whether the first `tokens` of a sequence with the positions `first..=last` in memory
    /// can be used. For a state `first` has no meaning: it has only one position.
    pub fn is_usable(self, first: u32, last: u32, tokens: u32) -> bool {
        match (self, tokens.checked_sub(1)) {
            (Self::None, _) | (_, None) => false,
            (Self::Recurrent, Some(end)) => last == end,
            (_, Some(end)) => last >= end && first <= self.first_needed(tokens),
        }
    }

    /// Whether the first `tokens` of a saved sequence of `saved` tokens can be used: llama.cpp
    /// saves no keys and values that the last token does not attend to.
    pub fn is_usable_saved(self, saved: u32, tokens: u32) -> bool {
        let Some(last) = saved.checked_sub(1) else {
            return false;
        };
        self.is_usable(self.first_needed(last), last, tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: MemoryKind = MemoryKind::SlidingWindow { window_tokens: 512 };

    #[test]
    fn full_attention_can_be_cut_anywhere() {
        for tokens in [1, 72, 899, 900] {
            assert!(MemoryKind::Full.is_usable(0, 899, tokens), "{tokens}");
            assert!(MemoryKind::Full.is_usable_saved(900, tokens), "{tokens}");
        }
        assert!(!MemoryKind::Full.is_usable(0, 899, 901));
        assert!(!MemoryKind::Full.is_usable(0, 899, 0));
        // Its beginning must never be missing.
        assert!(!MemoryKind::Full.is_usable(1, 899, 900));
    }

    #[test]
    fn a_sliding_window_must_be_complete() {
        // Position 583 is the first that does not attend to 71.
        assert!(!WINDOW.is_usable(72, 899, 582));
        assert!(WINDOW.is_usable(72, 899, 583));
        assert!(WINDOW.is_usable(0, 899, 1));
        // The least that llama.cpp leaves of a sequence is enough to continue at its end.
        assert!(WINDOW.is_usable(900 + 1 - 512, 899, 900));
        assert!(!WINDOW.is_usable(900 + 2 - 512, 899, 900));
        // Saved is what the last token attends to: one token can be removed.
        assert!(WINDOW.is_usable_saved(900, 900) && WINDOW.is_usable_saved(900, 899));
        assert!(!WINDOW.is_usable_saved(900, 898));
        assert!(WINDOW.is_usable_saved(512, 1) && !WINDOW.is_usable_saved(513, 1));
        assert!(WINDOW.can_cut(512) && !WINDOW.can_cut(513));
    }

    #[test]
    fn a_recurrent_state_is_usable_at_its_end_only() {
        let kind = MemoryKind::Recurrent;
        assert!(kind.is_usable(899, 899, 900) && !kind.is_usable(899, 899, 899));
        assert!(kind.is_usable_saved(900, 900) && !kind.is_usable_saved(900, 899));
        assert!(!kind.can_cut(1) && !kind.can_roll_back() && kind.needs_checkpoints());
        assert!(!MemoryKind::None.is_usable(0, 0, 1));
    }
}
