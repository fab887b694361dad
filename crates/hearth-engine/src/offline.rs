//! The jobs that `hearthctl` runs without a service; see [`hearth_proto::OfflineJob`].

use std::io::{self, Read as _, Write as _};

use hearth_proto::{Failure, FailureKind, OfflineEvent, OfflineJob};
use serde::Serialize;
use serde_json::Value;

use super::llama::{LlamaLoader, Runtime};
use super::process::isolate_process;
use super::tools;

/// The longest job description: it may contain a text and questions.
const JOB_BYTES_MAX: u64 = 1 << 26;

/// Reads a job from standard input, runs it, and writes its events to standard output.
///
/// # Errors
/// Where the streams cannot be used. A failed job is reported as an event.
pub fn run() -> io::Result<()> {
    isolate_process();
    let mut text = String::new();
    io::stdin().take(JOB_BYTES_MAX).read_to_string(&mut text)?;
    let done = serde_json::from_str(&text)
        .map_err(|e| Failure::invalid(format!("the job is not valid: {e}")))
        .and_then(|job| dispatch(&job));
    report(&match done {
        Ok(result) => OfflineEvent::Done(result),
        Err(failure) => OfflineEvent::Failed(failure),
    })
}

/// Writes an event as one line, at once.
///
/// # Errors
/// Where the reader is gone.
pub(super) fn report(event: &OfflineEvent) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

fn dispatch(job: &OfflineJob) -> Result<Value, Failure> {
    let runtime = Runtime::start().map_err(|e| internal(&e))?;
    let loader = LlamaLoader::new(runtime);
    let mut report = |what: &str, done, total| {
        let what = what.to_owned();
        // If the reader is gone, nothing waits for the result either.
        _ = report(&OfflineEvent::Progress { what, done, total });
    };
    match job {
        OfflineJob::Bench(job) => document(&tools::bench(&loader, job)?),
        OfflineJob::Quantize(job) => document(&tools::quantize(&loader, job, &mut report)?),
        OfflineJob::Imatrix(job) => document(&tools::imatrix(loader, job, &mut report)?),
        OfflineJob::Shape(job) => document(&tools::shape(&loader, job, &mut report)?),
        OfflineJob::Judge(job) => document(&tools::judge(loader, job, &mut report)?),
    }
}

fn document(result: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(result).map_err(|e| internal(&e))
}

fn internal(error: &dyn std::error::Error) -> Failure {
    Failure::new(FailureKind::Internal, error.to_string())
}
