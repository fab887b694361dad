//! Decodes the embeddings of pictures and sounds in place of tokens.

use llama_cpp_sys_2 as sys;

use super::context::Context;
use super::raw::seq_id;
use crate::backend::{DecodeError, EmbeddedPart};

impl Context {
    /// Decodes a part of a piece, whose tokens have embeddings of `width` numbers each. A
    /// piece that is decoded as a whole takes one batch, others several.
    pub(super) fn decode_embeddings(
        &mut self,
        part: &EmbeddedPart<'_>,
        width: usize,
    ) -> Result<(), DecodeError> {
        let (from, to) = (part.range.0 as usize, part.range.1 as usize);
        let tokens = part.piece.tokens as usize;
        let grid = part.piece.grid.len();
        let is_complete =
            part.embeddings.len() == tokens * width && (grid == 0 || grid == tokens * 4);
        let batch = if part.piece.is_whole {
            self.batch_max()
        } else {
            self.batch_size()
        };
        if width == 0 || from >= to || to > tokens || !is_complete {
            return Err(DecodeError::Code(-1));
        }
        // llama.cpp aborts the process where such a batch is divided.
        if part.piece.is_whole && to - from > batch {
            return Err(DecodeError::Code(-1));
        }
        self.set_causal(!part.piece.is_whole);
        let mut at = from;
        let mut done = Ok(());
        while at < to && done.is_ok() {
            let end = to.min(at + batch);
            done = self.decode_slice(part, width, (at, end));
            at = end;
        }
        self.set_causal(true);
        done
    }

    /// The most tokens of any batch.
    fn batch_max(&self) -> usize {
        // SAFETY: the context is valid.
        unsafe { sys::llama_n_ubatch(self.raw().as_ptr()) as usize }
    }

    fn set_causal(&mut self, is_causal: bool) {
        // SAFETY: a plain store that the next decode reads.
        unsafe { sys::llama_set_causal_attn(self.raw().as_ptr(), is_causal) };
    }

    /// Decodes tokens of a piece in one batch; there are so many embeddings and positions.
    fn decode_slice(
        &mut self,
        part: &EmbeddedPart<'_>,
        width: usize,
        (from, to): (usize, usize),
    ) -> Result<(), DecodeError> {
        let count = to - from;
        let n_tokens = i32::try_from(count).map_err(|_| DecodeError::Code(-1))?;
        let mut embeddings = part.embeddings[from * width..to * width].to_vec();
        let mut positions = positions(part, from, to);
        let mut seq = seq_id(part.seq);
        let mut counts = vec![1; count];
        let mut sequences = vec![&raw mut seq; count];
        let mut logits = vec![0; count];
        let batch = sys::llama_batch {
            n_tokens,
            token: std::ptr::null_mut(),
            embd: embeddings.as_mut_ptr(),
            pos: positions.as_mut_ptr(),
            n_seq_id: counts.as_mut_ptr(),
            seq_id: sequences.as_mut_ptr(),
            logits: logits.as_mut_ptr(),
        };
        // SAFETY: each array has `count` entries, `embeddings` `width` times as many and
        // `positions` four times where tokens have four; all live for the call.
        match unsafe { sys::llama_decode(self.raw().as_ptr(), batch) } {
            0 => Ok(()),
            1 => Err(DecodeError::NoRoom),
            2 => Err(DecodeError::Aborted),
            code => Err(DecodeError::Code(code)),
        }
    }
}

/// The positions of the tokens `from..to` of a piece, as llama.cpp takes them.
fn positions(part: &EmbeddedPart<'_>, from: usize, to: usize) -> Vec<i32> {
    let tokens = part.piece.tokens as usize;
    let grid = &part.piece.grid;
    if grid.is_empty() {
        let first = part.at as usize;
        let position = |n: usize| i32::try_from(first + n).unwrap_or(i32::MAX);
        return (from..to).map(position).collect();
    }
    let section = |n: usize| grid[n * tokens + from..n * tokens + to].iter().copied();
    (0..4).flat_map(section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Piece;

    #[test]
    fn positions_of_a_slice() {
        let mut piece = Piece {
            tokens: 3,
            positions: 3,
            ..Piece::default()
        };
        let of = |piece: &Piece, range: (usize, usize)| {
            let part = EmbeddedPart {
                piece,
                embeddings: &[],
                at: 10,
                range: (0, 0),
                seq: 0,
            };
            positions(&part, range.0, range.1)
        };
        assert_eq!(of(&piece, (1, 3)), [11, 12]);
        piece.grid = (0..12).collect();
        assert_eq!(of(&piece, (1, 3)), [1, 2, 4, 5, 7, 8, 10, 11]);
    }
}
