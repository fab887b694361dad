//! What `hearth-engine` does without a service: check a file, measure, evaluate, answer
//! once.

mod answer;
mod bandwidth;
mod bench;
mod check;
mod imatrix;
mod judge;
mod quantize;
mod questions;
mod reference;
mod score;
mod shape;
mod text;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use hearth_gguf::fit;
use hearth_gguf::read_header;
use hearth_proto::units::Bytes;
use hearth_proto::{Failure, FailureKind, KvType, Limits, LoadRequest, Sampling};
use nix::sys::statvfs::statvfs;

use super::backend::{Backend, DecodeError, Part, Token};
use super::chat::ChatLayer;
use super::llama::available;

pub use answer::answer;
pub use bench::bench;
pub use check::{check, check_adapter};
pub use imatrix::imatrix;
pub use judge::judge;
pub use quantize::quantize;
pub use questions::is_right;
pub use shape::shape;

/// Reports progress: the current activity, the steps done, and all steps.
pub type Report<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// The largest context in tokens that is taken from a model file here.
const CONTEXT_MAX: u32 = 4096;

/// The training context of a model file, within bounds.
pub fn own_context(path: &Path) -> u32 {
    // Errors in the file are reported when it is loaded.
    let header = File::open(path).map(|file| read_header(&mut BufReader::new(file)));
    let header = header.ok().and_then(Result::ok).unwrap_or_default();
    fit::context(&header, 0, CONTEXT_MAX)
}

/// A request to load `path` with `threads`, and with the context given.
pub fn load_request(path: &Path, context_size: u32, threads: u32) -> LoadRequest {
    LoadRequest {
        path: path.to_owned(),
        projector: None,
        context_size,
        kept_tokens: 0,
        kv_type: KvType::F16,
        threads_max: threads,
        slots: 1,
        lookup_tokens: 0,
        draft: None,
        memory_max: None,
        cache: None,
        adapters: Vec::new(),
        limits: Limits {
            threads,
            ..Limits::default()
        },
        sampling: Sampling::default(),
    }
}

/// Decodes the tokens of sequence 0 from `position` on; returns the index of the last one
/// in its batch.
fn decode<B: Backend>(
    backend: &mut B,
    tokens: &[Token],
    position: u32,
) -> Result<usize, DecodeError> {
    let last = tokens.len();
    let all: Vec<Part> = (1..)
        .zip((position..).zip(tokens))
        .map(|(n, (position, token))| Part {
            token: *token,
            position,
            seq: 0,
            samples: n == last,
        })
        .collect();
    let mut at = 0;
    for parts in all.chunks(backend.batch_max() as usize) {
        backend.decode(parts)?;
        at = parts.len() - 1;
    }
    Ok(at)
}

/// The model's own chat template.
fn chat<B: Backend>(backend: &B) -> Result<ChatLayer, Failure> {
    ChatLayer::load(&backend.chat_format())
}

/// Resident memory of the process in bytes, including mapped files (`VmRSS` of proc(5)).
fn resident() -> u64 {
    super::process::status_bytes("VmRSS:").unwrap_or(0)
}

/// Refuses work that would only trigger the OOM killer.
fn enough_memory(what: &str, needed: u64) -> Result<(), Failure> {
    match available() {
        Some(available) if needed > available => {
            let message = format!(
                "{what} takes {} of memory, and {} are available: stop something else first",
                Bytes(needed),
                Bytes(available)
            );
            Err(Failure::new(FailureKind::OutOfMemory, message))
        }
        _ => Ok(()),
    }
}

/// Refuses a file for which there is not enough disk space.
fn enough_space(out: &Path, needed: u64) -> Result<(), Failure> {
    let folder = out.parent().unwrap_or(Path::new("."));
    // If the file system does not report its free space, try to write.
    let Ok(space) = statvfs(folder) else {
        return Ok(());
    };
    let free = space
        .blocks_available()
        .saturating_mul(space.fragment_size());
    if needed <= free {
        return Ok(());
    }
    let message = format!(
        "the file will have {}, and {} are free in {}: delete other files first",
        Bytes(needed),
        Bytes(free),
        folder.display()
    );
    Err(Failure::new(FailureKind::Io, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_numbers() {
        assert!(enough_memory("it", 1).is_ok());
        let no = enough_memory("it", u64::MAX).unwrap_err();
        assert_eq!(no.kind, FailureKind::OutOfMemory);
        assert!(no.message.starts_with("it takes"), "{no}");
        assert!(enough_space(Path::new("/tmp/x"), 1).is_ok());
        let no = enough_space(Path::new("/tmp/x"), u64::MAX).unwrap_err();
        assert_eq!(no.kind, FailureKind::Io);
        assert!(no.message.contains("free in /tmp"), "{no}");
    }
}
