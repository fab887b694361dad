//! Which model a kept prompt belongs to.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::gguf::{GgufError, read_header};

/// Tells one model's contents from another's: a hash of the GGUF header, which holds
/// the vocabulary, the tensor table and all settings, and the file's size. Its name and
/// times do not matter, so a copied model keeps its prompts.
///
/// # Errors
/// Where the header cannot be read.
pub fn fingerprint(path: &Path) -> Result<u128, GgufError> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut hashing = Hashing {
        from: BufReader::new(file),
        hash: Xxh3::new(),
    };
    read_header(&mut hashing)?;
    hashing.hash.update(&size.to_le_bytes());
    Ok(hashing.hash.digest128())
}

/// Hashes what is read through it.
struct Hashing<R> {
    from: R,
    hash: Xxh3,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.hash.update(buf.get(..n).unwrap_or_default());
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one key and no tensors, then `data`.
    fn model(name: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        for text in ["general.name", name] {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
            if text == "general.name" {
                bytes.extend(8u32.to_le_bytes());
            }
        }
        bytes.extend(data);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn contents_count_and_names_do_not() {
        let of = |name, data: &[u8]| fingerprint(model(name, data).path()).unwrap();
        assert_eq!(of("a", b"xx"), of("a", b"xx"));
        assert_ne!(of("a", b"xx"), of("b", b"xx"));
        assert_ne!(of("a", b"xx"), of("a", b"xxx"));
        let text = tempfile::NamedTempFile::new().unwrap();
        assert!(fingerprint(text.path()).is_err());
    }
}
