//! Identifies the model that a cached prefix belongs to.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use hearth_gguf::{GgufError, read_header};

/// How many places of the weights are sampled, and how many bytes at each: a model that
/// was fine-tuned differs everywhere, and one with single fine-tuned layers in many
/// places. Reading all of it would take minutes from a memory card.
const SAMPLES: u64 = 1024;
const SAMPLE: u64 = 256;

/// Identifies a model by its contents: a hash of the GGUF header, which holds the
/// vocabulary, the tensor table and all settings, of the file's size, and of samples of its
/// weights. File name and times do not matter, so a copied model keeps its cached prefixes.
///
/// # Errors
/// If the header or a sample of the weights cannot be read.
pub fn fingerprint(path: &Path) -> Result<u128, GgufError> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut hashing = Hashing {
        from: BufReader::new(file),
        hash: Xxh3::new(),
    };
    read_header(&mut hashing)?;
    hashing.hash.update(&size.to_le_bytes());
    let file = hashing.from.into_inner();
    // At equal distances, the last one at the end; a small file is read whole.
    let step = size.saturating_sub(SAMPLE).div_ceil(SAMPLES).max(SAMPLE);
    let last = size.saturating_sub(SAMPLE);
    for at in (0..last).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        sample(&file, at, size, &mut hashing.hash)?;
    }
    sample(&file, last, size, &mut hashing.hash)?;
    Ok(hashing.hash.digest128())
}

fn sample(file: &File, at: u64, size: u64, hash: &mut Xxh3) -> io::Result<()> {
    let mut bytes = vec![0; usize::try_from(SAMPLE.min(size - at)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, at)?;
    hash.update(&bytes);
    Ok(())
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
    fn the_fingerprint_depends_on_the_content_only() {
        let of = |name, data: &[u8]| fingerprint(model(name, data).path()).unwrap();
        assert_eq!(of("a", b"xx"), of("a", b"xx"));
        assert_ne!(of("a", b"xx"), of("b", b"xx"));
        assert_ne!(of("a", b"xx"), of("a", b"xxx"));
        // Two fine-tunes of one model differ in their weights alone.
        let mut weights = vec![7; 3 * 1024 * 1024];
        let one = of("a", &weights);
        let middle = weights.len() / 2;
        weights[middle..middle + 8192].fill(8);
        assert_ne!(of("a", &weights), one);
        let text = tempfile::NamedTempFile::new().unwrap();
        assert!(fingerprint(text.path()).is_err());
    }
}
