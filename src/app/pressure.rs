//! Memory pressure notifications of the service manager (systemd.io, "Memory Pressure
//! Handling in systemd").

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::board::BoardMonitor;

/// Notifications within this time count as one: the kernel sends one in every window.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Reports every notification to the board monitor, if the service manager provides them.
/// Runs on a thread of its own, which blocks in the kernel.
pub(super) fn watch(board: &BoardMonitor) {
    let Some(path) = env::var_os("MEMORY_PRESSURE_WATCH").map(PathBuf::from) else {
        return;
    };
    // The documented way to switch it off.
    if path == Path::new("/dev/null") {
        return;
    }
    let trigger = env::var("MEMORY_PRESSURE_WRITE").unwrap_or_default();
    let board = board.clone();
    let follow = move || {
        if let Err(error) = follow(&board, &path, &trigger) {
            let path = path.display();
            log::warn!("cannot watch memory pressure: {path}: {error}");
        }
    };
    let thread = std::thread::Builder::new().name("pressure".into());
    if let Err(error) = thread.spawn(follow) {
        log::warn!("cannot watch memory pressure: {error}");
    }
}

/// Waits for notifications; returns only with an error.
fn follow(board: &BoardMonitor, path: &Path, trigger: &str) -> io::Result<()> {
    let trigger = STANDARD.decode(trigger);
    let trigger = trigger.map_err(|_| io::Error::other("MEMORY_PRESSURE_WRITE is not Base64"))?;
    let kind = path.metadata()?.file_type();
    let mut from: File = if kind.is_socket() {
        let stream = UnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        OwnedFd::from(stream).into()
    } else {
        // Opened for writing too: a fifo would report end of file when its last writer
        // closes it.
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?
    };
    if !trigger.is_empty() {
        from.write_all(&trigger)?;
    }
    // The kernel's own files signal with POLLPRI, all others by having data to read.
    let is_file = kind.is_file();
    let ready = if is_file {
        PollFlags::POLLPRI
    } else {
        PollFlags::POLLIN
    };
    log::info!("watching memory pressure in {}", path.display());
    loop {
        let mut waiting = [PollFd::new(from.as_fd(), ready)];
        poll(&mut waiting, PollTimeout::NONE)?;
        let events = waiting[0].revents().unwrap_or(PollFlags::empty());
        if !events.contains(ready) {
            return Err(io::Error::other("the file does not support polling"));
        }
        // The content does not matter, only that there is some.
        if !is_file && from.read(&mut [0; 256])? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        board.warn_of_memory();
        std::thread::sleep(INTERVAL_MIN);
    }
}
