//! Tests a template in a separate process first: llama.cpp's interpreter limits neither
//! time nor memory, and a template comes with a file of unknown origin.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use hearth_proto::{Failure, FailureKind};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use super::ChatFormat;
use super::openai::example;
use crate::chat_shim::Chat;

/// CPU time limit for compiling a template and rendering examples: all of llama.cpp's own
/// test templates together take less.
const CPU_S: u64 = 5;
/// Private memory limit of that process.
const DATA_BYTES: u64 = 512 << 20;
/// The exit code for out of memory.
const NO_MEMORY: i32 = 3;
/// The subcommand of hearth-engine that runs the test.
const SUBCOMMAND: &str = "try-template";

/// Refuses a template that exceeds the limits.
///
/// # Errors
/// `ModelInvalid`.
pub(super) fn check(format: &ChatFormat) -> Result<(), Failure> {
    let sources = [&format.template, &format.tool_template];
    for source in sources.into_iter().flatten() {
        let status = match tried(source) {
            Ok(status) => status,
            // A file cannot cause this: a sandbox that allows no processes, an emulator.
            // The watchdog still applies.
            Err(error) => {
                log::warn!(
                    "the model's chat template is used without a test in a separate process: {error}"
                );
                continue;
            }
        };
        if let Some(why) = refusal(status) {
            return Err(Failure::new(
                FailureKind::ModelInvalid,
                format!("the model file's chat template is not usable: {why}; get the file again"),
            ));
        }
    }
    Ok(())
}

/// Why a template is not usable whose test ended like this. An error of the template itself is
/// reported to the request that causes it.
fn refusal(status: ExitStatus) -> Option<String> {
    let limits = [Signal::SIGKILL, Signal::SIGXCPU].map(|signal| signal as i32);
    match (status.signal(), status.code()) {
        (Some(signal), _) if limits.contains(&signal) => Some(format!(
            "rendering a short question takes more than {CPU_S} s of processor time ({status})"
        )),
        (Some(_), _) => Some(format!("it crashes the template engine ({status})")),
        (None, Some(NO_MEMORY)) => Some(format!(
            "rendering a short question takes more than {} MiB",
            DATA_BYTES >> 20
        )),
        (None, _) => None,
    }
}

/// How the process ended.
fn tried(source: &str) -> io::Result<ExitStatus> {
    let mut child = Command::new("/proc/self/exe")
        .arg(SUBCOMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // If the process has already ended, its status gives the reason.
        _ = input.write_all(source.as_bytes());
    }
    child.wait()
}

/// The child process: compiles and renders the template on standard input.
pub fn run() -> ExitCode {
    let bounds = [
        (Resource::RLIMIT_CPU, CPU_S),
        (Resource::RLIMIT_DATA, DATA_BYTES),
        (Resource::RLIMIT_CORE, 0),
    ];
    for (resource, most) in bounds {
        // This fails only where a lower limit already applies.
        _ = setrlimit(resource, most, most);
    }
    let mut source = String::new();
    if io::stdin().read_to_string(&mut source).is_err() {
        return ExitCode::FAILURE;
    }
    let rendered = Chat::new(&source, "<s>", "</s>").and_then(|chat| chat.render(&example(&[])));
    match rendered {
        // The messages of the C++ exceptions for it.
        Err(error)
            if ["bad_alloc", "length_error"]
                .iter()
                .any(|e| error.to_string().contains(e)) =>
        {
            ExitCode::from(NO_MEMORY.to_le_bytes()[0])
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_templates_fault() {
        let why = |raw| refusal(ExitStatus::from_raw(raw));
        for (raw, part) in [
            (Signal::SIGKILL as i32, "5 s of processor time"),
            (Signal::SIGXCPU as i32, "5 s of processor time"),
            (Signal::SIGSEGV as i32, "crashes the template engine"),
            (Signal::SIGABRT as i32, "crashes the template engine"),
            (NO_MEMORY << 8, "512 MiB"),
        ] {
            let why = why(raw).unwrap();
            assert!(why.contains(part), "{why}");
        }
        assert_eq!((why(0), why(1 << 8)), (None, None));
    }
}
