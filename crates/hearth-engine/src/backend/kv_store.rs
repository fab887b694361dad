//! The keys and values of sequences.

use hearth_gguf::fit::Sequences;
use hearth_policy::scheduler::MemoryKind;

/// The KV cache of a loaded model, which all sequences share.
pub trait KvStore {
    /// How many sequences there are; they are numbered from 0.
    fn sequences(&self) -> Sequences;

    /// How its memory of a sequence can be cut and shared.
    fn memory(&self) -> MemoryKind;

    /// The first and the last position of a sequence that is in memory; `None` where it is
    /// empty.
    fn positions(&self, seq: u32) -> Option<(u32, u32)>;

    /// Whether the first `tokens` tokens of a sequence are in memory as far as the next
    /// token needs them.
    fn is_usable(&self, seq: u32, tokens: u32) -> bool {
        let positions = self.positions(seq);
        positions.is_some_and(|(first, last)| self.memory().is_usable(first, last, tokens))
    }

    /// Removes a sequence's tokens from `position` on; `false` where that is not
    /// possible. From 0 on it is always possible.
    fn remove(&mut self, seq: u32, position: u32) -> bool;

    /// Adds the first `tokens` tokens of sequence `from` to the empty sequence `to`;
    /// changes nothing and returns `false` where they are not usable
    /// ([`Self::is_usable`]).
    fn share(&mut self, from: u32, to: u32, tokens: u32) -> bool;

    /// Clears the memory, so that the next sequence is laid out as in a new one.
    fn clear(&mut self);

    /// Serializes a sequence of `tokens` tokens; empty where that is not possible.
    fn save(&mut self, seq: u32, tokens: u32) -> Vec<u8>;

    /// Restores a saved sequence of `tokens` tokens into the empty sequence `seq`;
    /// `false` where there is no room, or it does not match the model. The bytes come
    /// from [`Self::save`] under the same [`Self::settings`].
    fn restore(&mut self, seq: u32, saved: &[u8], tokens: u32) -> bool;

    /// A text that names what saved bytes depend on besides the model.
    fn settings(&self) -> String;
}
