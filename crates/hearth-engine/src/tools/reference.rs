//! A reference model's distributions in a file, so that only one model has to be in
//! memory: [`super::score::STORED_MAX`] tokens of each position, 8 KiB.

use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use hearth_proto::{Failure, FailureKind};
use xxhash_rust::xxh3::Xxh3Default;

use super::score::STORED_MAX;
use crate::backend::{Backend, Token};

/// First bytes of the file, which exists only while one command runs.
const MAGIC: [u8; 8] = *b"HearthR1";

/// A hash of what two models must have in common to be compared: their vocabularies, and
/// the tokens of the text.
pub(super) fn fingerprint<B: Backend>(backend: &B, text: &[Token]) -> u64 {
    let mut hash = Xxh3Default::new();
    for token in 0..backend.info().vocab_size.cast_signed() {
        hash.update(&backend.piece(token));
        hash.write_u8(0xff);
    }
    for token in text {
        hash.write_i32(*token);
    }
    hash.digest()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let path = path.to_owned();
    move |error| {
        let message = format!(
            "the reference file {}: {error}; the disk may be full",
            path.display()
        );
        Failure::new(FailureKind::Io, message)
    }
}

/// The number of tokens that are stored for a vocabulary of this size.
fn stored_of(vocab: u32) -> usize {
    STORED_MAX.min(vocab as usize)
}

/// Writes a reference.
#[derive(Debug)]
pub(super) struct ReferenceWriter {
    path: PathBuf,
    out: BufWriter<File>,
}

impl ReferenceWriter {
    pub(super) fn create(path: &Path, vocab: u32, fingerprint: u64) -> Result<Self, Failure> {
        let failed = failed(path);
        let mut out = BufWriter::new(File::create(path).map_err(&failed)?);
        let head = [&MAGIC[..], &vocab.to_le_bytes(), &fingerprint.to_le_bytes()].concat();
        out.write_all(&head).map_err(&failed)?;
        let path = path.to_owned();
        Ok(Self { path, out })
    }

    pub(super) fn put(&mut self, stored: &[(u32, f32)]) -> Result<(), Failure> {
        let mut bytes = Vec::with_capacity(stored.len() * 8);
        for (id, log_probability) in stored {
            bytes.extend(id.to_le_bytes());
            bytes.extend(log_probability.to_le_bytes());
        }
        self.out.write_all(&bytes).map_err(failed(&self.path))
    }

    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.out.flush().map_err(failed(&self.path))
    }
}

/// Reads a reference.
#[derive(Debug)]
pub(super) struct ReferenceReader {
    path: PathBuf,
    from: BufReader<File>,
    position: Vec<(u32, f32)>,
    bytes: Vec<u8>,
}

impl ReferenceReader {
    /// Opens it; the inner error says why it cannot be used for a comparison.
    pub(super) fn open(
        path: &Path,
        vocab: u32,
        fingerprint: u64,
    ) -> Result<Result<Self, String>, Failure> {
        let failed = failed(path);
        let mut from = BufReader::new(File::open(path).map_err(&failed)?);
        let (mut magic, mut words, mut print) = ([0; 8], [0; 4], [0; 8]);
        from.read_exact(&mut magic).map_err(&failed)?;
        from.read_exact(&mut words).map_err(&failed)?;
        from.read_exact(&mut print).map_err(&failed)?;
        if magic != MAGIC {
            return Err(failed(io::Error::other("another version wrote it")));
        }
        let theirs = u32::from_le_bytes(words);
        if theirs != vocab {
            return Ok(Err(format!(
                "its vocabulary has {vocab} tokens, the reference's {theirs}"
            )));
        }
        if u64::from_le_bytes(print) != fingerprint {
            return Ok(Err(
                "its vocabulary has the size of the reference's, but other tokens".to_owned(),
            ));
        }
        Ok(Ok(Self {
            path: path.to_owned(),
            from,
            position: Vec::new(),
            bytes: vec![0; stored_of(vocab) * 8],
        }))
    }

    /// The distribution at the next position.
    pub(super) fn next(&mut self) -> Result<&[(u32, f32)], Failure> {
        self.from
            .read_exact(&mut self.bytes)
            .map_err(failed(&self.path))?;
        let (pairs, _) = self.bytes.as_chunks::<8>();
        self.position.clear();
        self.position
            .extend(pairs.iter().map(|&[a, b, c, d, e, f, g, h]| {
                let id = u32::from_le_bytes([a, b, c, d]);
                (id, f32::from_le_bytes([e, f, g, h]))
            }));
        Ok(&self.position)
    }
}
