//! The tokens of each sequence, as the KV cache.

use hearth_engine::backend::{KvStore, Token};
use hearth_gguf::Header;
use hearth_gguf::fit::{Sequences, sequences};
use hearth_policy::scheduler::MemoryKind;
use hearth_proto::EngineShape;

use super::FakeBackend;

impl KvStore for FakeBackend {
    fn sequences(&self) -> Sequences {
        sequences(
            &Header::default(),
            &EngineShape::DEFAULT,
            self.info.slots,
            1,
        )
    }

    fn memory(&self) -> MemoryKind {
        if self.script.state {
            MemoryKind::Recurrent
        } else {
            MemoryKind::Full
        }
    }

    fn positions(&self, seq: u32) -> Option<(u32, u32)> {
        let cells = self.cells.get(&seq)?;
        let last = u32::try_from(cells.len()).ok()?.checked_sub(1)?;
        Some((if self.script.state { last } else { 0 }, last))
    }

    fn remove(&mut self, seq: u32, position: u32) -> bool {
        if let Some(cells) = self.cells.get_mut(&seq) {
            let is_cut = (1..cells.len()).contains(&(position as usize));
            if is_cut && self.script.state {
                return false;
            }
            cells.truncate(position as usize);
        }
        if position == 0 {
            self.cells.remove(&seq);
            self.failing.remove(&seq);
            self.slow.remove(&seq);
        }
        true
    }

    fn share(&mut self, from: u32, to: u32, tokens: u32) -> bool {
        if !self.is_usable(from, tokens) {
            return false;
        }
        let cells = self.cells.get(&from);
        let shared = cells.and_then(|cells| cells.get(..tokens as usize));
        let shared = shared.unwrap_or_default().to_vec();
        self.cells.insert(to, shared);
        true
    }

    fn clear(&mut self) {
        self.cells.clear();
    }

    fn save(&mut self, seq: u32, tokens: u32) -> Vec<u8> {
        if !self.is_usable(seq, tokens) {
            return Vec::new();
        }
        let cells = self.cells.get(&seq);
        cells
            .into_iter()
            .flatten()
            .flat_map(|t| t.to_le_bytes())
            .collect()
    }

    fn restore(&mut self, seq: u32, saved: &[u8], tokens: u32) -> bool {
        let (cells, rest) = saved.as_chunks();
        let cells: Vec<Token> = cells.iter().map(|c| Token::from_le_bytes(*c)).collect();
        let used: usize = self.cells.values().map(Vec::len).sum();
        let fits = used + cells.len() <= self.info.kv_tokens as usize;
        if !fits || !rest.is_empty() || cells.len() != tokens as usize {
            return false;
        }
        self.cells.insert(seq, cells);
        true
    }

    fn settings(&self) -> String {
        "fake".into()
    }
}
