//! Models that the servers send.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub fn demo_path() -> PathBuf {
    // The daemon's tests, in another package, use this module as well.
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut files = folders.map(|f| f.join("packaging/demo-model/hearth-demo-q8_0.gguf"));
    files.find(|file| file.is_file()).unwrap()
}

pub fn demo() -> Vec<u8> {
    fs::read(demo_path()).unwrap()
}

/// Bytes that begin as a GGUF file does, without repetition.
pub fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = b"GGUF".to_vec();
    while out.len() < n {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        out.extend((state >> 24).to_le_bytes());
    }
    out.truncate(n);
    out
}

pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Splits a model as `llama-gguf-split` does: the metadata are in the first part; each
/// part has the descriptions and data of its tensors, and its part number.
pub fn split(model: &[u8], parts: usize) -> Vec<Vec<u8>> {
    let mut at = 8;
    let tensors = usize::try_from(u64(model, &mut at)).unwrap();
    let pairs = u64(model, &mut at);
    let begin = at;
    for _ in 0..pairs {
        text(model, &mut at);
        let kind = u32(model, &mut at);
        skip(model, &mut at, kind);
    }
    let metadata = &model[begin..at];
    let mut infos = Vec::new();
    for _ in 0..tensors {
        let begin = at;
        text(model, &mut at);
        let dimensions = u32(model, &mut at);
        at += 8 * dimensions as usize + 4;
        let description = &model[begin..at];
        infos.push((description, usize::try_from(u64(model, &mut at)).unwrap()));
    }
    let data = &model[at.next_multiple_of(32)..];

    let per_part = tensors.div_ceil(parts);
    (0..parts)
        .map(|part| {
            let mine = part * per_part..((part + 1) * per_part).min(tensors);
            let from = infos[mine.start].1;
            let to = infos.get(mine.end).map_or(data.len(), |info| info.1);
            let mut out = b"GGUF".to_vec();
            out.extend(3u32.to_le_bytes());
            out.extend((mine.len() as u64).to_le_bytes());
            let own = 3 + if part == 0 { pairs } else { 0 };
            out.extend(own.to_le_bytes());
            if part == 0 {
                out.extend(metadata);
            }
            for (key, kind, value) in [
                ("split.no", 2u32, part),
                ("split.count", 2, parts),
                ("split.tensors.count", 5, tensors),
            ] {
                out.extend((key.len() as u64).to_le_bytes());
                out.extend(key.bytes());
                out.extend(kind.to_le_bytes());
                let width = if kind == 2 { 2 } else { 4 };
                out.extend(&(value as u64).to_le_bytes()[..width]);
            }
            for (description, offset) in &infos[mine] {
                out.extend(*description);
                out.extend(((offset - from) as u64).to_le_bytes());
            }
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&data[from..to]);
            out
        })
        .collect()
}

fn skip(model: &[u8], at: &mut usize, kind: u32) {
    match kind {
        8 => text(model, at),
        9 => {
            let inner = u32(model, at);
            let n = u64(model, at);
            (0..n).for_each(|_| skip(model, at, inner));
        }
        0 | 1 | 7 => *at += 1,
        2 | 3 => *at += 2,
        4..=6 => *at += 4,
        _ => *at += 8,
    }
}

fn text(model: &[u8], at: &mut usize) {
    let n = u64(model, at);
    *at += usize::try_from(n).unwrap();
}

fn u32(model: &[u8], at: &mut usize) -> u32 {
    *at += 4;
    u32::from_le_bytes(model[*at - 4..*at].try_into().unwrap())
}

fn u64(model: &[u8], at: &mut usize) -> u64 {
    *at += 8;
    u64::from_le_bytes(model[*at - 8..*at].try_into().unwrap())
}
