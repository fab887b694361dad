//! The engine process around the main loop.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use hearth_proto::{Command, Event, Failure, FailureKind, LoadRequest, PROTOCOL_VERSION};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{SFlag, fstat};

use super::affinity;
use super::backend::{Backend as _, KvStore as _, Loader, Progress, Tokenizer as _};
use super::chat::ChatLayer;
use super::disk_cache::DiskCacheWriter;
use super::link::Link;
use super::main_loop::MainLoop;
use super::worker::Worker;

/// Makes the engine the first choice of the OOM killer, well above an ordinary service's
/// 0 (proc(5)): the engine can be restarted, other processes on the board perhaps not.
const OOM_SCORE_ADJ: &str = "800";

/// Serves the daemon at the other end of standard input.
///
/// # Errors
/// Where standard input is not a socket, or fails.
pub fn run<L: Loader>(make_loader: impl FnOnce() -> Result<L, String>) -> io::Result<()> {
    let socket = inherited_socket()?;
    isolate_process();
    let progress = Arc::new(Progress::default());
    let (link, commands) = Link::start(socket, &progress)?;
    link.send(&[Event::Hello {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }]);
    let Some(request) = wait_for_load(&commands) else {
        return Ok(());
    };
    affinity::pin(request.limits.cpus);
    progress.set_busy(true);
    let loaded = make_loader()
        .map_err(|e| Failure::new(FailureKind::Internal, e))
        .and_then(|loader| {
            limit_memory(request.memory_max);
            load(&loader, &request, &progress, &link)
        });
    match loaded {
        Ok((backend, chat)) => {
            let disk = DiskCacheWriter::open(&request, &backend.settings(), backend.memory());
            link.send(&[Event::Loaded(backend.info().clone().into())]);
            let worker = Worker::new(backend, chat, disk, request.lookup_tokens);
            MainLoop::new(worker, request.limits, link, progress).run(&commands);
        }
        // Shut down while it loaded: nothing waits for the result.
        Err(_) if progress.is_quit() => {}
        Err(failure) => link.send(&[Event::LoadFailed(failure)]),
    }
    Ok(())
}

/// Turns [`run`]'s result into an exit code with a message: 2 where the process was not
/// started by hearthd, 1 for other errors.
pub fn exit_code(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            let usage = error.kind() == io::ErrorKind::InvalidInput;
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn load<L: Loader>(
    loader: &L,
    request: &LoadRequest,
    progress: &Arc<Progress>,
    link: &Link,
) -> Result<(L::Backend, ChatLayer), Failure> {
    let reporter = link.clone();
    let shown = std::cell::Cell::new(-1.0);
    let report = Box::new(move |share: f32| {
        // llama.cpp reports every tensor; one event per percent is enough.
        if share - shown.get() >= 0.01 {
            shown.set(share);
            reporter.send(&[Event::Loading { progress: share }]);
        }
    });
    let mut backend = loader.load(request, progress, report)?;
    let chat = ChatLayer::load(&backend.chat_format())?;
    backend.set_chat(chat.abilities());
    Ok((backend, chat))
}

fn wait_for_load(commands: &Receiver<Command>) -> Option<LoadRequest> {
    loop {
        match commands.recv() {
            Ok(Command::Load(request)) => return Some(request),
            Ok(Command::Shutdown) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

fn inherited_socket() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let kind = SFlag::from_bits_truncate(fstat(stdin.as_fd())?.st_mode);
    if kind & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "hearth-engine is started by hearthd, with a socket as its standard input; \
             see `hearth-engine --help` for what can be done by hand",
        ));
    }
    Ok(stdin.as_fd().try_clone_to_owned()?.into())
}

/// Limits the private memory of the process, so that exceeding it is an error here and
/// does not invoke the OOM killer. `RLIMIT_DATA` (Linux 4.7, setrlimit(2)) counts private
/// writable memory; the address space, which `RLIMIT_AS` counts, consists mostly of the
/// mapped model and of reservations for the C library's arenas.
fn limit_memory(more: Option<u64>) {
    let Some((more, now)) = more.zip(status_bytes("VmData:")) else {
        return;
    };
    let most = now.saturating_add(more);
    if let Err(error) = setrlimit(Resource::RLIMIT_DATA, most, most) {
        log::debug!("cannot limit the memory: {error}");
    }
}

/// Runs `work` with at most `more` bytes of private memory beyond the current amount; see
/// [`limit_memory`].
pub(super) fn within<T>(more: u64, work: impl FnOnce() -> T) -> T {
    let limits = getrlimit(Resource::RLIMIT_DATA).ok();
    let bounded = limits.zip(status_bytes("VmData:"));
    if let Some(((_, hard), now)) = bounded {
        let most = now.saturating_add(more).min(hard);
        _ = setrlimit(Resource::RLIMIT_DATA, most, hard);
    }
    let done = work();
    if let Some((soft, hard)) = limits {
        _ = setrlimit(Resource::RLIMIT_DATA, soft, hard);
    }
    done
}

/// The bytes under `name` in `/proc/self/status` (proc(5)); `VmData:` is what
/// `RLIMIT_DATA` counts.
pub(super) fn status_bytes(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Makes the process end with its parent, and makes it the first choice of the OOM
/// killer.
pub(super) fn isolate_process() {
    if let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        log::debug!("cannot set the parent-death signal: {error}");
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ) {
        log::debug!("cannot raise oom_score_adj: {error}");
    }
}
