//! A template tried in a process of its own first: llama.cpp's interpreter bounds neither
//! time nor memory, and a template comes with a file from anywhere.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use hearth_proto::{Failure, FailureKind};
use nix::sys::resource::{Resource, setrlimit};

use super::ChatFormat;
use super::openai::example;
use crate::chat_shim::Chat;

/// Processor time for compiling a template and rendering examples: all of llama.cpp's own
/// test templates together take less.
const CPU_S: u64 = 5;
/// Private memory of that process.
const DATA_BYTES: u64 = 512 << 20;
/// The exit code where the memory did not suffice.
const NO_MEMORY: i32 = 3;
/// The subcommand of hearth-engine that does it.
const SUBCOMMAND: &str = "try-template";

/// Refuses a template that does not come to an end within bounds.
///
/// # Errors
/// `ModelInvalid`.
pub(super) fn check(format: &ChatFormat) -> Result<(), Failure> {
    let sources = [&format.template, &format.tool_template];
    for source in sources.into_iter().flatten() {
        let status = match tried(source) {
            Ok(status) => status,
            // Nothing that a file could bring about: a sandbox that allows no process, an
            // emulator. The watchdog is there all the same.
            Err(error) => {
                log::warn!("the model's chat template was not tried before it is used: {error}");
                continue;
            }
        };
        // What a template refuses is for the request that meets it.
        if status.signal().is_some() || status.code() == Some(NO_MEMORY) {
            return Err(Failure::new(
                FailureKind::ModelInvalid,
                format!(
                    "the model file's chat template is not usable: rendering a short question \
                     takes more than {CPU_S} s or {} MiB ({status}); get the file again",
                    DATA_BYTES >> 20
                ),
            ));
        }
    }
    Ok(())
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
        // One that is gone already tells by its status.
        _ = input.write_all(source.as_bytes());
    }
    child.wait()
}

/// The process: compiles and renders the template on standard input.
pub fn run() -> ExitCode {
    let bounds = [
        (Resource::RLIMIT_CPU, CPU_S),
        (Resource::RLIMIT_DATA, DATA_BYTES),
        (Resource::RLIMIT_CORE, 0),
    ];
    for (resource, most) in bounds {
        // A bound that is lower already holds.
        _ = setrlimit(resource, most, most);
    }
    let mut source = String::new();
    if io::stdin().read_to_string(&mut source).is_err() {
        return ExitCode::FAILURE;
    }
    let rendered = Chat::new(&source, "<s>", "</s>").and_then(|chat| chat.render(&example(&[])));
    match rendered {
        // C++'s words for it.
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
