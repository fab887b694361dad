//! The service manager's warnings that memory is short (systemd.io, "Memory Pressure
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

/// Warnings closer together than this count as one: the kernel sends one in every window.
const APART: Duration = Duration::from_secs(1);

/// Reports every warning to the service, where the service manager provides them. Runs on a
/// thread of its own, which blocks in the kernel.
pub(super) fn watch(board: &BoardMonitor) {
    let Some(path) = env::var_os("MEMORY_PRESSURE_WATCH").map(PathBuf::from) else {
        return;
    };
    // The documented way to switch it off.
    if path == Path::new("/dev/null") {
        return;
    }
    let wanted = env::var("MEMORY_PRESSURE_WRITE").unwrap_or_default();
    let board = board.clone();
    let follow = move || {
        if let Err(error) = follow(&board, &path, &wanted) {
            let path = path.display();
            log::warn!("no warnings of memory pressure: {path}: {error}");
        }
    };
    let thread = std::thread::Builder::new().name("pressure".into());
    if let Err(error) = thread.spawn(follow) {
        log::warn!("no warnings of memory pressure: {error}");
    }
}

/// Waits for warnings; ends only with an error.
fn follow(board: &BoardMonitor, path: &Path, wanted: &str) -> io::Result<()> {
    let wanted = STANDARD.decode(wanted);
    let wanted = wanted.map_err(|_| io::Error::other("MEMORY_PRESSURE_WRITE is not Base64"))?;
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
    if !wanted.is_empty() {
        from.write_all(&wanted)?;
    }
    // The kernel's own files signal with POLLPRI, all others by having data to read.
    let is_file = kind.is_file();
    let sign = if is_file {
        PollFlags::POLLPRI
    } else {
        PollFlags::POLLIN
    };
    log::info!("warnings of memory pressure come from {}", path.display());
    loop {
        let mut waiting = [PollFd::new(from.as_fd(), sign)];
        poll(&mut waiting, PollTimeout::NONE)?;
        let came = waiting[0].revents().unwrap_or(PollFlags::empty());
        if !came.contains(sign) {
            return Err(io::Error::other("it cannot be watched"));
        }
        // The content does not matter, only that there is some.
        if !is_file && from.read(&mut [0; 256])? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        board.warn_of_memory();
        std::thread::sleep(APART);
    }
}
