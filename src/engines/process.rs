//! The daemon's end of an engine: start, frames, end.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hearth_proto::{Command, Event, framing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command as Process};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// An engine that runs inside the calling process: it serves its end of the socket and
/// returns when it ends, as its process would exit.
pub type InProcess = dyn Fn(UnixStream) -> JoinHandle<()> + Send + Sync;

/// How engines are started.
#[derive(Clone, Default)]
pub enum Launcher {
    /// The configured executable, as a process of its own.
    #[default]
    Executable,
    /// A function, for tests.
    InProcess(Arc<InProcess>),
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Executable => "Executable",
            Self::InProcess(_) => "InProcess",
        })
    }
}

/// A running engine.
#[derive(Debug)]
pub struct EngineProcess {
    running: Running,
    events: mpsc::UnboundedReceiver<Event>,
}

#[derive(Debug)]
enum Running {
    Process(Child),
    InProcess(JoinHandle<()>),
}

impl Launcher {
    /// Starts an engine with a socket as its standard input, and the tasks that read and
    /// write it. A process terminates with the daemon: by the parent-death signal, and when
    /// the socket is closed.
    pub(super) fn start(
        &self,
        executable: &Path,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> io::Result<EngineProcess> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let running = match self {
            Self::Executable => Running::Process(
                Process::new(executable)
                    .stdin(Stdio::from(OwnedFd::from(theirs)))
                    .stdout(Stdio::null())
                    .kill_on_drop(true)
                    .spawn()?,
            ),
            Self::InProcess(start) => {
                theirs.set_nonblocking(true)?;
                Running::InProcess(start(UnixStream::from_std(theirs)?))
            }
        };
        let (read, write) = UnixStream::from_std(ours)?.into_split();
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(write_commands(write, commands));
        tokio::spawn(read_events(read, sender));
        Ok(EngineProcess { running, events })
    }
}

impl EngineProcess {
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Process(child) => child.id(),
            Running::InProcess(_) => Some(std::process::id()),
        }
    }

    /// The next event; `None` when the engine closed its end.
    pub(super) async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Events that arrived before the end and were not read yet.
    pub(super) fn try_event(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Waits up to `timeout` for the engine to exit, then kills it; also returns whether it
    /// did.
    pub(super) async fn end(&mut self, timeout: Duration) -> (io::Result<ExitStatus>, bool) {
        if let Ok(status) = tokio::time::timeout(timeout, self.exit()).await {
            return (status, false);
        }
        (self.kill().await, true)
    }

    async fn kill(&mut self) -> io::Result<ExitStatus> {
        match &mut self.running {
            Running::Process(child) => child.start_kill()?,
            Running::InProcess(task) => task.abort(),
        }
        self.exit().await
    }

    async fn exit(&mut self) -> io::Result<ExitStatus> {
        match &mut self.running {
            Running::Process(child) => child.wait().await,
            Running::InProcess(task) if task.is_finished() => Ok(ExitStatus::from_raw(0)),
            Running::InProcess(task) => {
                // A panic or an abort counts as an exit.
                _ = task.await;
                Ok(ExitStatus::from_raw(0))
            }
        }
    }
}

async fn write_commands(mut to: OwnedWriteHalf, mut commands: mpsc::UnboundedReceiver<Command>) {
    while let Some(command) = commands.recv().await {
        let written = match framing::encode(&command) {
            Ok(frame) => to.write_all(&frame).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            log::debug!("cannot write to the engine: {error}");
            return;
        }
    }
}

async fn read_events(from: OwnedReadHalf, events: mpsc::UnboundedSender<Event>) {
    let mut from = BufReader::new(from);
    loop {
        match read_event(&mut from).await {
            Ok(event) => {
                if events.send(event).is_err() {
                    return;
                }
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    log::warn!("the engine's socket failed: {error}");
                }
                return;
            }
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
