//! The vectors of `Embed` and `EmbedToFile`.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use hearth_proto::{Failure, FailureKind, ModelRef, Use};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::daemon::Daemon;
use crate::dispatch::Embeddings;

/// The most bytes of the vectors in a reply: more would hold up the bus for everyone.
const REPLY_MAX: usize = 1 << 20;

/// Refuses texts whose vectors would be too large for a reply, before they are computed.
///
/// # Errors
/// `InvalidArgs`; `ModelNotFound`.
pub(super) async fn check_reply(
    daemon: &Daemon,
    model: &ModelRef,
    texts: usize,
) -> Result<(), Failure> {
    let model = daemon.pool.name_for(model, Use::Embedding).await?;
    let index = daemon.store.index();
    let header = index
        .get(&model)
        .and_then(|model| model.header.as_ref().ok());
    let width = header.map_or(0, |header| header.shape.width) as usize;
    check(texts, width)
}

fn check(texts: usize, width: usize) -> Result<(), Failure> {
    let vector = width.saturating_mul(size_of::<f64>());
    if texts.saturating_mul(vector) <= REPLY_MAX {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "{texts} vectors of {width} numbers are too large for a reply: call `EmbedToFile`, or \
         send at most {} texts at once",
        REPLY_MAX / vector
    )))
}

/// The vectors as doubles.
///
/// # Errors
/// `InvalidArgs` as [`check_reply`], for a model whose file does not say how wide they are.
pub(super) fn doubles(computed: Embeddings) -> Result<Vec<Vec<f64>>, Failure> {
    let width = computed.vectors.first().map_or(0, Vec::len);
    check(computed.vectors.len(), width)?;
    let doubles = |vector: Vec<f32>| vector.into_iter().map(f64::from).collect();
    Ok(computed.vectors.into_iter().map(doubles).collect())
}

/// The vectors in a file in memory that nobody can change, at its beginning; and the numbers of
/// each.
///
/// # Errors
/// `Io` where memory or descriptors are short.
pub(super) fn file(computed: &Embeddings) -> Result<(OwnedFd, u32), Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot create a file in memory: {error}");
        Failure::new(FailureKind::Io, message)
    };
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memfd = memfd_create(c"hearthd-vectors", flags).map_err(|error| failed(error.into()))?;
    let mut file = File::from(memfd);
    let bytes: Vec<u8> = computed
        .vectors
        .iter()
        .flatten()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    file.write_all(&bytes).map_err(failed)?;
    std::io::Seek::rewind(&mut file).map_err(failed)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all())).map_err(|error| failed(error.into()))?;
    let dimensions = computed.vectors.first().map_or(0, Vec::len);
    let dimensions = u32::try_from(dimensions).unwrap_or(u32::MAX);
    Ok((file.into(), dimensions))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn replies_are_bounded() {
        assert!(check(341, 384).is_ok());
        let failure = check(342, 384).unwrap_err();
        assert!(failure.message.contains("at most 341 texts"), "{failure}");
        assert!(check(1 << 20, 0).is_ok(), "unknown");
    }

    #[test]
    fn a_file_has_all_numbers_and_cannot_be_changed() {
        let computed = Embeddings {
            vectors: vec![vec![0.5, -1.0], vec![2.0, 3.0]],
            tokens: 2,
            model: "m".into(),
        };
        let (fd, dimensions) = file(&computed).unwrap();
        let (mut file, mut bytes) = (File::from(fd), Vec::new());
        file.read_to_end(&mut bytes).unwrap();
        let numbers = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        assert_eq!(
            (numbers.collect::<Vec<_>>(), dimensions),
            (vec![0.5, -1.0, 2.0, 3.0], 2)
        );
        assert!(file.write_all(b"x").is_err());
    }
}
