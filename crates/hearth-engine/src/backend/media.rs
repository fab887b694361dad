//! Pictures and sounds as parts of a prompt.

use hearth_proto::{Blob, Failure, Media, MediaKind, picture, sound};
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use super::decoder::DecodeError;
use super::tokenizer::Token;

/// A picture or sound of a request, whose header was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// What it is.
    pub kind: MediaKind,
    /// The file.
    pub bytes: Blob,
    /// Pixels in a row, and rows; of a picture.
    pub size: (u32, u32),
    /// SHA-256 of the file: entries of the caches belong to it, so that no other file may
    /// have it.
    pub hash: [u8; 32],
}

impl Medium {
    /// Checks the header of a picture or sound.
    ///
    /// # Errors
    /// `InvalidArgs` and `NotSupported` where it cannot be decoded.
    pub fn new(media: &Media) -> Result<Self, Failure> {
        let named = |what, failure: Failure| Failure {
            message: format!("a {what} {}", failure.message),
            ..failure
        };
        let size = match media.kind {
            MediaKind::Picture => {
                let picture = picture::read(&media.bytes);
                let picture = picture.map_err(|failure| named("picture", failure))?;
                (picture.width, picture.height)
            }
            MediaKind::Sound => {
                sound::read(&media.bytes).map_err(|failure| named("sound", failure))?;
                (0, 0)
            }
        };
        Ok(Self {
            kind: media.kind,
            bytes: media.bytes.clone(),
            size,
            hash: Sha256::digest(&*media.bytes).into(),
        })
    }

    /// Tokens that stand for one of its pieces in the list of a sequence: negative, and the
    /// same for the same piece only, so that prefixes are compared like those of texts.
    pub fn placeholders(&self, index: u32, positions: u32) -> impl Iterator<Item = Token> {
        let hash = self.hash;
        (0..positions).map(move |n| {
            let at = [index.to_le_bytes(), n.to_le_bytes()].concat();
            let number = xxh3_64(&[&hash[..], &at].concat());
            // 31 bits with the sign: never a token of the vocabulary.
            Token::from_le_bytes([
                number.to_le_bytes()[0],
                number.to_le_bytes()[1],
                number.to_le_bytes()[2],
                number.to_le_bytes()[3],
            ]) | Token::MIN
        })
    }
}

/// The shape of a picture or sound in a prompt, or of a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Tokens, each with an embedding.
    pub tokens: u32,
    /// Positions in the sequence; with several positions for each token there are fewer than
    /// tokens.
    pub positions: u32,
    /// Whether it is decoded as a whole: its tokens attend to each other.
    pub is_whole: bool,
    /// The four positions of each token, all first ones before all second ones and so on;
    /// empty where tokens have one position.
    pub grid: Vec<i32>,
}

/// One part of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Tokens.
    Text(Vec<Token>),
    /// A part of the medium with this number in the prompt, and its own number in that
    /// medium.
    Media {
        /// Which medium.
        medium: usize,
        /// Which part of it.
        index: u32,
        /// Its shape.
        piece: Piece,
    },
}

/// The tokens of a piece that are decoded together.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedPart<'a> {
    /// The piece.
    pub piece: &'a Piece,
    /// The embeddings of all tokens of the piece.
    pub embeddings: &'a [f32],
    /// The position of its first token.
    pub at: u32,
    /// The tokens to decode: the first, and one past the last.
    pub range: (u32, u32),
    /// The number of its sequence in the KV cache.
    pub seq: u32,
}

/// A model that takes pictures or sounds.
pub trait MediaDecoder {
    /// The text that stands for a picture or sound in a rendered prompt. No client can know
    /// it.
    fn marker(&self) -> &str;

    /// The parts of a rendered prompt, which has one marker for each medium. Their contents
    /// do not matter yet.
    ///
    /// # Errors
    /// `InvalidArgs` where one cannot be used; `NotSupported` where the model takes no
    /// pictures, or no sounds; `Internal`.
    fn layout(&self, text: &str, add_bos: bool, media: &[&Medium]) -> Result<Vec<Chunk>, Failure>;

    /// The embeddings of one piece. It may take seconds.
    ///
    /// # Errors
    /// `InvalidArgs` where the medium cannot be decoded; `Cancelled` where it was aborted;
    /// `OutOfMemory`, `Internal`.
    fn encode(&mut self, medium: &Medium, index: u32) -> Result<Vec<f32>, Failure>;

    /// Decodes tokens of a piece.
    ///
    /// # Errors
    /// As [`Decoder::decode`](super::Decoder::decode).
    fn decode_part(&mut self, part: &EmbeddedPart<'_>) -> Result<(), DecodeError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_differ_by_content_piece_and_place() {
        let medium = |byte| Medium {
            kind: MediaKind::Picture,
            bytes: Blob::default(),
            size: (1, 1),
            hash: [byte; 32],
        };
        let of = |byte, index| medium(byte).placeholders(index, 64).collect::<Vec<_>>();
        assert_eq!(of(1, 0), of(1, 0));
        assert!(of(1, 0).iter().all(|token| *token < 0));
        for other in [of(2, 0), of(1, 1)] {
            assert!(of(1, 0).iter().zip(other).all(|(one, other)| *one != other));
        }
    }
}
