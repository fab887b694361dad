//! The daemon's end of the engine process: spawning, frames, termination.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::process::{Child, Command as Process};
use tokio::sync::mpsc;

use crate::protocol::{Command, Event, framing};

/// A spawned engine.
#[derive(Debug)]
pub(super) struct EngineLink {
    child: Child,
    events: mpsc::UnboundedReceiver<Event>,
}

impl EngineLink {
    /// Spawns the engine with a socket as its standard input, and the tasks that read and
    /// write it. It terminates with the daemon: by the parent-death signal, and when the
    /// socket is closed.
    pub(super) fn spawn(
        engine: &Path,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = Process::new(engine)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (read, mut write) = UnixStream::from_std(ours)?.into_split();
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                let written = match framing::encode(&command) {
                    Ok(frame) => write.write_all(&frame).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = written {
                    log::debug!("cannot write to the engine: {error}");
                    return;
                }
            }
        });
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut from = BufReader::new(read);
            loop {
                match read_event(&mut from).await {
                    Ok(event) => {
                        if sender.send(event).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        if error.kind() != io::ErrorKind::UnexpectedEof {
                            log::warn!("the engine's socket broke: {error}");
                        }
                        return;
                    }
                }
            }
        });
        Ok(Self { child, events })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next event; `None` when the engine closed its end.
    pub(super) async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Events that arrived before the end and were not read yet.
    pub(super) fn left_over(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Waits up to `patience` for the process to exit, then kills it.
    pub(super) async fn end(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        if let Ok(status) = tokio::time::timeout(patience, self.child.wait()).await {
            status
        } else {
            self.child.start_kill()?;
            self.child.wait().await
        }
    }
}

async fn read_event(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Event> {
    let mut header = [0; framing::HEADER_BYTES];
    from.read_exact(&mut header).await?;
    let mut payload = vec![0; framing::payload_len(header)?];
    from.read_exact(&mut payload).await?;
    framing::decode(&payload)
}

/// The engine's executable: as configured, or next to the daemon's.
pub(super) fn executable(configured: &Path) -> PathBuf {
    if !configured.as_os_str().is_empty() {
        return configured.to_owned();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    exe.with_file_name("hearth-engine")
}
