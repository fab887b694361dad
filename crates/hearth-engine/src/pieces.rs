//! The pictures and sounds of a sequence: where they are in it, and their embeddings.

use std::collections::VecDeque;
use std::sync::Arc;

use super::backend::{Medium, Piece};

/// Memory for the embeddings of pictures and sounds that were encoded before.
const CACHE_BYTES: usize = 32 << 20;

/// Embeddings of one piece.
pub(super) type Embeddings = Arc<[f32]>;

/// A piece in a sequence.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// The position of its first token.
    pub(super) at: u32,
    pub(super) medium: Arc<Medium>,
    /// Its number among the pieces of its medium.
    pub(super) index: u32,
    pub(super) piece: Piece,
}

impl Placed {
    /// One past its last position.
    pub(super) fn end(&self) -> u32 {
        self.at + self.piece.positions
    }

    /// Whether its tokens have one position each and can be decoded in parts.
    pub(super) fn can_split(&self) -> bool {
        !self.piece.is_whole && self.piece.grid.is_empty()
    }

    fn key(&self, uid: Option<u32>) -> Key {
        (uid, self.medium.hash, self.index)
    }
}

/// All pieces of a sequence, ascending.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    list: Vec<Placed>,
    /// The embeddings of the piece at this position, which is decoded next.
    ready: Option<(u32, Embeddings)>,
}

impl Pieces {
    pub(super) fn push(&mut self, placed: Placed) {
        self.list.push(placed);
    }

    /// The piece that a position belongs to.
    pub(super) fn containing(&self, position: u32) -> Option<&Placed> {
        let mut list = self.list.iter();
        list.find(|placed| (placed.at..placed.end()).contains(&position))
    }

    /// Where a part of the prompt must end: before and after each piece.
    pub(super) fn stops(&self) -> Vec<u32> {
        let mut stops: Vec<u32> = self.list.iter().flat_map(|p| [p.at, p.end()]).collect();
        stops.dedup();
        stops
    }

    /// Tokens that have no position of their own.
    pub(super) fn tokens_without_position(&self) -> u32 {
        let extra = |p: &Placed| p.piece.tokens.saturating_sub(p.piece.positions);
        self.list.iter().map(extra).sum()
    }

    /// The embeddings of a piece, if they were set.
    pub(super) fn ready(&self, at: u32) -> Option<Embeddings> {
        let ready = self.ready.as_ref().filter(|(of, _)| *of == at);
        ready.map(|(_, embeddings)| Arc::clone(embeddings))
    }

    /// Keeps the embeddings of a piece until the next one's: the cache may drop them before
    /// they are decoded.
    pub(super) fn set_ready(&mut self, at: u32, embeddings: Embeddings) {
        self.ready = Some((at, embeddings));
    }

    /// Frees what was decoded.
    pub(super) fn clear_ready(&mut self) {
        self.ready = None;
    }
}

/// A user's piece of a medium: the time to the first token would reveal to others whether
/// someone has shown the same picture.
type Key = (Option<u32>, [u8; 32], u32);

/// Embeddings that were computed before, the least recently used first.
#[derive(Debug, Default)]
pub(super) struct EmbeddingCache {
    entries: VecDeque<(Key, Embeddings)>,
}

impl EmbeddingCache {
    /// The embeddings of a user's piece, which becomes the most recently used.
    pub(super) fn get(&mut self, uid: Option<u32>, placed: &Placed) -> Option<Embeddings> {
        let key = placed.key(uid);
        let at = self.entries.iter().position(|(of, _)| *of == key)?;
        let entry = self.entries.remove(at)?;
        let embeddings = Arc::clone(&entry.1);
        self.entries.push_back(entry);
        Some(embeddings)
    }

    /// Adds the embeddings of a piece, and drops the least recently used ones where they
    /// take too much memory.
    pub(super) fn insert(&mut self, uid: Option<u32>, placed: &Placed, embeddings: Embeddings) {
        self.entries.push_back((placed.key(uid), embeddings));
        let mut bytes: usize = self.entries.iter().map(|(_, e)| size_of_val(&**e)).sum();
        while bytes > CACHE_BYTES {
            let Some((_, dropped)) = self.entries.pop_front() else {
                return;
            };
            bytes -= size_of_val(&*dropped);
        }
    }

    /// Drops this user's embeddings, or all.
    pub(super) fn forget(&mut self, uid: Option<u32>) {
        self.entries
            .retain(|((of, ..), _)| uid.is_some() && *of != uid);
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::{Blob, MediaKind};

    use super::*;

    fn placed(at: u32, byte: u8) -> Placed {
        Placed {
            at,
            medium: Arc::new(Medium {
                kind: MediaKind::Picture,
                bytes: Blob::default(),
                size: (1, 1),
                hash: [byte; 32],
            }),
            index: 0,
            piece: Piece {
                tokens: 4,
                positions: 4,
                ..Piece::default()
            },
        }
    }

    #[test]
    fn a_piece_is_found_by_its_positions() {
        let mut pieces = Pieces::default();
        pieces.push(placed(2, 1));
        pieces.push(placed(6, 2));
        let at = |position| pieces.containing(position).map(|placed| placed.at);
        assert_eq!(
            [1, 2, 5, 6, 9, 10].map(at),
            [None, Some(2), Some(2), Some(6), Some(6), None]
        );
        assert_eq!(pieces.stops(), [2, 6, 10]);
    }

    #[test]
    fn embeddings_belong_to_a_user_and_the_oldest_go_first() {
        let mut cache = EmbeddingCache::default();
        let third: Embeddings = vec![0.0; CACHE_BYTES / 12].into();
        for byte in [1, 2] {
            cache.insert(Some(7), &placed(0, byte), Arc::clone(&third));
        }
        assert!(cache.get(Some(8), &placed(0, 1)).is_none());
        assert!(cache.get(Some(7), &placed(5, 1)).is_some());
        for byte in [3, 4] {
            cache.insert(Some(8), &placed(0, byte), Arc::clone(&third));
        }
        // 1 was used after 2.
        assert!(cache.get(Some(7), &placed(0, 2)).is_none());
        assert!(cache.get(Some(7), &placed(0, 1)).is_some());
        cache.forget(Some(7));
        assert!(cache.get(Some(7), &placed(0, 1)).is_none());
        assert!(cache.get(Some(8), &placed(0, 4)).is_some());
        cache.forget(None);
        assert!(cache.get(Some(8), &placed(0, 4)).is_none());
    }
}
