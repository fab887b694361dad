//! Rewrites a model in another quantization type.

use std::fs;
use std::path::Path;

use hearth_gguf::Header;
use hearth_gguf::fit::{Repack, Settings, estimate};
use hearth_proto::{Failure, FailureKind, QuantizeJob, QuantizeResult};

use super::{Report, check, enough_memory, enough_space};
use crate::llama::{
    BUFFER_BYTES, Imatrix, LlamaLoader, Outcome, Quantize, Runtime, available, check_tensors,
    header, quantize as rewrite,
};
use crate::process::within;

/// The lookup tables of some types, and what a process needs in any case.
const BASE_BYTES: u64 = 96 << 20;
/// A thread's stack (glibc's default, 8 MiB) and what it allocates.
const THREAD_BYTES: u64 = 10 << 20;
/// The number of copies of the vocabulary and other header values in memory, as text and
/// as separate strings.
const HEADER_COPIES: u64 = 8;

/// Rewrites a model and checks the result.
///
/// # Errors
/// `InvalidArgs` where it should not be rewritten or the importance matrix does not
/// match, `OutOfMemory`, `Io` where there is no disk space or the file cannot be written,
/// `ModelInvalid`.
pub fn quantize(
    loader: &LlamaLoader,
    job: &QuantizeJob,
    report: Report<'_>,
) -> Result<QuantizeResult, Failure> {
    let header = header(&job.model)?;
    if !job.allow_requantize {
        refuse_quantized(&job.model, &header)?;
    }
    let imatrix = job.imatrix.as_deref().map(Imatrix::read).transpose()?;
    let size = |path: &Path| {
        let metadata = fs::metadata(path).map(|m| m.len());
        metadata.map_err(|e| Failure::new(FailureKind::Io, format!("{}: {e}", path.display())))
    };
    let bytes_before = size(&job.model)?;
    let values = bytes_before.saturating_sub(header.weight_bytes());
    let matrix = job.imatrix.as_deref().map_or(Ok(0), size)?;
    let memory = memory(values, matrix, job.threads);
    enough_memory("quantizing", memory)?;
    let wanted = Quantize {
        from: &job.model,
        to: &job.out,
        file_type: job.file_type,
        imatrix: imatrix.as_ref(),
        threads: job.threads,
        allow_requantize: job.allow_requantize,
    };
    let runtime = loader.runtime();
    let trial = within(memory, || rewrite(runtime, &wanted, true, |_, _| ()))?;
    if trial.needs_imatrix && imatrix.is_none() {
        return Err(Failure::invalid(
            "this type needs an importance matrix: create one with hearthctl imatrix, and pass it \
             with --imatrix",
        ));
    }
    enough_space(&job.out, trial.bytes.saturating_add(values))?;
    let outcome = rewrite_reporting(runtime, &wanted, memory, report)?;
    report("checking the result", outcome.tensors, outcome.tensors);
    let ran = verify(loader, &job.out).map_err(|failure| {
        let why = format!("the result is not usable: {}", failure.message);
        Failure::new(failure.kind, why)
    })?;
    Ok(QuantizeResult {
        parameters: header.parameters,
        bytes_before,
        bytes_after: size(&job.out)?,
        tensors: outcome.tensors,
        fallbacks: outcome.fallbacks,
        ran,
    })
}

/// Rewrites the model on another thread, within this much memory, and reports how far it is.
fn rewrite_reporting(
    runtime: &Runtime,
    wanted: &Quantize<'_>,
    memory: u64,
    report: Report<'_>,
) -> Result<Outcome, Failure> {
    let (told, heard) = std::sync::mpsc::channel();
    let outcome = std::thread::scope(|scope| {
        let work = scope.spawn(move || {
            within(memory, || {
                rewrite(runtime, wanted, false, move |done, total| {
                    _ = told.send((done, total));
                })
            })
        });
        for (done, total) in heard {
            report("quantizing", done, total);
        }
        work.join()
    });
    outcome.unwrap_or_else(|_| Err(Failure::new(FailureKind::Internal, "quantizing panicked")))
}

/// The private memory that quantizing takes, regardless of the model's size: the model is
/// read through a mapping, [`BUFFER_BYTES`] of rows at a time.
fn memory(header_bytes: u64, imatrix_bytes: u64, threads: u32) -> u64 {
    // Our sums and means, llama.cpp's copy, and temporary data.
    let imatrix = imatrix_bytes.saturating_mul(4);
    let header = header_bytes.saturating_mul(HEADER_COPIES);
    (BUFFER_BYTES as u64 + BASE_BYTES + THREAD_BYTES * u64::from(threads))
        .saturating_add(imatrix)
        .saturating_add(header)
}

fn refuse_quantized(path: &Path, header: &Header) -> Result<(), Failure> {
    let quantized = |w: &hearth_gguf::Weights| w.element.is_quantized();
    if !header.weights.iter().any(quantized) {
        return Ok(());
    }
    let kind = match header.quantization.as_str() {
        "" => String::new(),
        kind => format!(" ({kind})"),
    };
    Err(Failure::invalid(format!(
        "{} is already quantized{kind}, which lost precision: use a file in F16, BF16 or F32, or \
         pass --allow-requantize",
        path.display()
    )))
}

/// Loads the file and runs it, or, where there is no memory for that, reads every number
/// in it; returns whether it ran.
fn verify(loader: &LlamaLoader, out: &Path) -> Result<bool, Failure> {
    let settings = Settings {
        repack: Repack::of_this_cpu(),
        ..Settings::plain(64)
    };
    let needed = estimate(&header(out)?, &settings).total;
    if available().is_some_and(|available| needed.0 > available) {
        check_tensors(loader.runtime(), out)?;
        return Ok(false);
    }
    check(loader, out)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_does_not_depend_on_the_weights() {
        let mib = |bytes: u64| bytes >> 20;
        assert_eq!(mib(memory(0, 0, 4)), 200);
        // A vocabulary of 150,000 takes about 6 MB in the file, an importance matrix 2.
        assert!(mib(memory(6 << 20, 2 << 20, 4)) < 260);
        assert_eq!(memory(u64::MAX, 1, 4), u64::MAX);
    }
}
