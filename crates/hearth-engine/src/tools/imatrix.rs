//! Computes the importance matrix of a model.

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;

use hearth_proto::{EngineShape, Failure, FailureKind, ImatrixJob, ImatrixResult, Use};

use super::text::{Text, parts};
use super::{Report, load_request};
use crate::backend::{Backend as _, Decoder as _, KvStore as _, Loader as _};
use crate::llama::{Collector, Imatrix, LlamaLoader};

/// Has a model process a text, and writes how strongly each column of its matrices was
/// used.
///
/// # Errors
/// Those of loading, `InvalidArgs` where the text is too short, `Io`.
pub fn imatrix(
    loader: LlamaLoader,
    job: &ImatrixJob,
    report: Report<'_>,
) -> Result<ImatrixResult, Failure> {
    let collector = Arc::new(Collector::default());
    // All tokens go through the last block only where all have logits.
    let loader = loader
        .with_outputs(EngineShape::DEFAULT.micro_batch)
        .with_collector(Arc::clone(&collector));
    let request = load_request(&job.model, job.context, job.threads);
    let mut backend = loader.load(&request, &Arc::default(), Box::new(|_| ()))?;
    backend.info().kind.check(Use::Completion)?;
    let chunks = Text::read(&backend, &job.text, job.context)?.chunks;
    let total = chunks.len() as u64;
    for (done, chunk) in (1..).zip(&chunks) {
        backend.remove(0, 0);
        for parts in parts(chunk, |_| true).chunks(backend.batch_max() as usize) {
            backend.decode(parts)?;
        }
        report("reading the text", done, total);
    }
    let chunk_tokens = u32::try_from(chunks[0].len()).unwrap_or(u32::MAX);
    let count = u32::try_from(total).unwrap_or(u32::MAX);
    let matrix = Imatrix::new(collector.sums(), job.name.clone(), count, chunk_tokens);
    let finite = |n: &f32| n.is_finite();
    if matrix.is_empty() || !matrix.sums.values().all(|s| s.squares.iter().all(finite)) {
        return Err(crate::backend::no_logits());
    }
    let write = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(&job.out)?);
        matrix.write(&mut out)?;
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()
    };
    write().map_err(|e| Failure::new(FailureKind::Io, format!("{}: {e}", job.out.display())))?;
    Ok(ImatrixResult {
        matrices: matrix.len() as u64,
        chunks: total,
        chunk_tokens,
    })
}
