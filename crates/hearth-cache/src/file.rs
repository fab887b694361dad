//! File format of one cached prefix.
//!
//! ```text
//! magic "HEARTHKV", u32 version, u32 owner kind (0 everybody, 1 a user), u32 uid,
//! u32 number of tokens, u64 length of the payload, u128 fingerprint of the model,
//! u64 settings, u128 XXH3 of the payload, in version 3 u64 adapters, the tokens (i32 each),
//! u64 XXH3 of all this; the payload
//! ```
//! A prefix that was computed without adapters is written as version 2.
//! Everything is little-endian. Lengths are checked against the file's length before they
//! are used for an allocation.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use hearth_proto::CacheScope;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

const MAGIC: &[u8; 8] = b"HEARTHKV";
/// Incremented whenever the layout or the meaning of the payload changes.
const VERSION: u32 = 2;
/// The same with adapters.
const VERSION_ADAPTERS: u32 = 3;
/// Bytes before the tokens in [`VERSION`].
const FIXED: usize = 8 + 4 * 4 + 8 + 16 + 8 + 16;
/// Further bytes in [`VERSION_ADAPTERS`].
const ADAPTERS: usize = 8;
/// Upper bound of the number of tokens: more than any context has.
const TOKENS_MAX: u32 = 1 << 22;

/// Why a cached prefix cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Not a cache file, or truncated, or modified.
    #[error("{0}")]
    Damaged(&'static str),
    /// Another version of Hearthd wrote it.
    #[error("it has version {0}, this is version {VERSION_ADAPTERS}")]
    Version(u32),
    /// A file system error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The header of a cached prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its owner, and the adapters that it was computed with.
    pub scope: CacheScope,
    /// [`super::fingerprint`] of the model.
    pub fingerprint: u128,
    /// A hash of all settings that the payload depends on.
    pub settings: u64,
    /// The tokens of the prefix.
    pub tokens: Vec<i32>,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    payload_hash: u128,
}

impl Header {
    /// A header for a payload.
    pub(super) fn new(
        scope: CacheScope,
        fingerprint: u128,
        settings: u64,
        tokens: Vec<i32>,
        payload: &[u8],
    ) -> Self {
        Self {
            scope,
            fingerprint,
            settings,
            tokens,
            payload_bytes: payload.len() as u64,
            payload_hash: xxh3_128(payload),
        }
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let CacheScope { uid, adapters } = self.scope;
        let version = match adapters {
            0 => VERSION,
            _ => VERSION_ADAPTERS,
        };
        let mut bytes = Vec::with_capacity(FIXED + ADAPTERS + self.tokens.len() * 4 + 8);
        bytes.extend(MAGIC);
        bytes.extend(version.to_le_bytes());
        bytes.extend(u32::from(uid.is_some()).to_le_bytes());
        bytes.extend(uid.unwrap_or(0).to_le_bytes());
        let count = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        bytes.extend(count.to_le_bytes());
        bytes.extend(self.payload_bytes.to_le_bytes());
        bytes.extend(self.fingerprint.to_le_bytes());
        bytes.extend(self.settings.to_le_bytes());
        bytes.extend(self.payload_hash.to_le_bytes());
        if adapters != 0 {
            bytes.extend(adapters.to_le_bytes());
        }
        bytes.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes
    }
}

/// Reads a file's header and checks it, and the file's length with it.
pub(super) fn read_header(path: &Path) -> Result<Header, CacheError> {
    header(&mut File::open(path)?)
}

/// Reads all of a file and checks all of it.
pub(super) fn read(path: &Path) -> Result<(Header, Vec<u8>), CacheError> {
    let mut file = File::open(path)?;
    let header = header(&mut file)?;
    let mut payload = Vec::new();
    // The length has been checked against the file's by now.
    let length = usize::try_from(header.payload_bytes).unwrap_or(0);
    payload
        .try_reserve_exact(length)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    file.take(header.payload_bytes).read_to_end(&mut payload)?;
    if payload.len() != length || xxh3_128(&payload) != header.payload_hash {
        return Err(CacheError::Damaged("its contents have changed"));
    }
    Ok((header, payload))
}

fn header(file: &mut File) -> Result<Header, CacheError> {
    let length = file.metadata()?.len();
    let mut bytes = vec![0; FIXED];
    file.read_exact(&mut bytes).map_err(cut_off)?;
    let mut fields = Fields(&bytes);
    if &fields.take::<8>() != MAGIC {
        return Err(CacheError::Damaged("it is not a cached prompt"));
    }
    let version = u32::from_le_bytes(fields.take());
    let more = match version {
        VERSION => 0,
        VERSION_ADAPTERS => ADAPTERS,
        _ => return Err(CacheError::Version(version)),
    };
    let kind = u32::from_le_bytes(fields.take());
    let uid = u32::from_le_bytes(fields.take());
    let count = u32::from_le_bytes(fields.take());
    let payload_bytes = u64::from_le_bytes(fields.take());
    let fingerprint = u128::from_le_bytes(fields.take());
    let settings = u64::from_le_bytes(fields.take());
    let payload_hash = u128::from_le_bytes(fields.take());
    let rest = more as u64 + u64::from(count) * 4 + 8;
    let whole = (FIXED as u64 + rest).checked_add(payload_bytes);
    if count > TOKENS_MAX || whole != Some(length) {
        return Err(CacheError::Damaged(
            "its length differs from what its header says",
        ));
    }
    let mut tail = vec![0; usize::try_from(rest).unwrap_or(0)];
    file.read_exact(&mut tail).map_err(cut_off)?;
    bytes.extend(&tail);
    let (hashed, hash) = bytes.split_at(bytes.len() - 8);
    if xxh3_64(hashed).to_le_bytes() != hash {
        return Err(CacheError::Damaged("its header has changed"));
    }
    let (adapters, tokens) = hashed
        .get(FIXED..)
        .and_then(|rest| rest.split_at_checked(more))
        .unwrap_or_default();
    let tokens = tokens.chunks_exact(4);
    Ok(Header {
        scope: CacheScope {
            uid: (kind == 1).then_some(uid),
            // Nothing is 0, as where there are none.
            adapters: u64::from_le_bytes(Fields(adapters).take()),
        },
        fingerprint,
        settings,
        tokens: tokens
            .map(|t| i32::from_le_bytes(Fields(t).take()))
            .collect(),
        payload_bytes,
        payload_hash,
    })
}

fn cut_off(error: io::Error) -> CacheError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        CacheError::Damaged("it is cut off")
    } else {
        error.into()
    }
}

/// Reads fields of fixed size from the beginning.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sample(folder: &Path) -> std::path::PathBuf {
        sample_with(folder, 0)
    }

    fn sample_with(folder: &Path, adapters: u64) -> std::path::PathBuf {
        let payload: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let scope = CacheScope {
            uid: Some(1000),
            adapters,
        };
        let header = Header::new(scope, 7 << 100, 9, vec![1, -2, 3], &payload);
        let path = folder.join("sample.kv");
        let mut bytes = header.encode();
        bytes.extend(payload);
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_written_file_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample(dir.path());
        let (header, payload) = read(&path).unwrap();
        assert_eq!(read_header(&path).unwrap(), header);
        assert_eq!(
            (header.scope, header.fingerprint),
            (Some(1000).into(), 7 << 100)
        );
        assert_eq!((header.settings, header.tokens), (9, vec![1, -2, 3]));
        assert_eq!((payload.len(), payload[255]), (5000, 255));
    }

    #[test]
    fn the_header_names_the_adapters() {
        let dir = tempfile::tempdir().unwrap();
        let without = fs::read(sample(dir.path())).unwrap();
        // As every version of Hearthd before adapters wrote it.
        assert_eq!((without[8], without.len()), (2, FIXED + 3 * 4 + 8 + 5000));
        let path = sample_with(dir.path(), 77);
        let (header, payload) = read(&path).unwrap();
        assert_eq!(header.scope.adapters, 77);
        assert_eq!((header.tokens, payload.len()), (vec![1, -2, 3], 5000));
        assert_eq!(fs::read(&path).unwrap().len(), without.len() + ADAPTERS);
    }

    #[test]
    fn every_truncation_and_bit_flip_is_detected() {
        for adapters in [0, 77] {
            every_cut_and_every_changed_bit(adapters);
        }
    }

    fn every_cut_and_every_changed_bit(adapters: u64) {
        let dir = tempfile::tempdir().unwrap();
        let path = sample_with(dir.path(), adapters);
        let whole = fs::read(&path).unwrap();
        let header = whole.len() - 5000;
        for cut in (0..=header).chain([header + 1, whole.len() - 1]) {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path).is_err(), "cut at {cut}");
            assert!(read_header(&path).is_err(), "cut at {cut}");
        }
        for at in (0..header).chain((header..whole.len()).step_by(97)) {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, &changed).unwrap();
            assert!(read(&path).is_err(), "changed at {at}");
            assert_eq!(read_header(&path).is_err(), at < header, "changed at {at}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        fs::write(&path, &longer).unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn invalid_lengths_allocate_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        // Number of tokens, and length of the payload.
        for range in [20..24, 24..32] {
            let old = bytes[range.clone()].to_vec();
            bytes[range.clone()].fill(0xff);
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(read(&path), Err(CacheError::Damaged(_))));
            bytes[range].copy_from_slice(&old);
        }
        let mut other = bytes.clone();
        other[8] = 99;
        fs::write(&path, &other).unwrap();
        assert!(matches!(read(&path), Err(CacheError::Version(99))));
        assert!(matches!(read(dir.path()), Err(CacheError::Io(_))));
    }
}
