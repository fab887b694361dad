//! The engine's end of the socket: a reader thread that handles what must not wait for
//! the tick loop.

use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_proto::{Command, Event, Priority, RequestId, framing};

use super::backend::Progress;
use super::llama::leave;

/// The request of the running decode, where aborting the decode affects only that
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) id: RequestId,
    /// Its class, where a request of a higher one may abort the decode: a chunk of a
    /// prompt is computed again later. `None` where the other request waits: a token is
    /// computed soon.
    pub(super) yields: Option<Priority>,
}

/// Both directions of the socket.
#[derive(Clone, Debug)]
pub(super) struct Link {
    writer: Arc<Mutex<BufWriter<UnixStream>>>,
    running: Arc<Mutex<Option<Running>>>,
    progress: Arc<Progress>,
}

impl Link {
    /// Starts the reader thread. When the socket closes, the daemon is gone and the
    /// process exits at once, even in the middle of a decode.
    pub(super) fn start(
        socket: UnixStream,
        progress: &Arc<Progress>,
    ) -> io::Result<(Self, Receiver<Command>)> {
        let link = Self {
            writer: Arc::new(Mutex::new(BufWriter::new(socket.try_clone()?))),
            running: Arc::default(),
            progress: Arc::clone(progress),
        };
        let (sender, receiver) = channel();
        let reader = link.clone();
        std::thread::Builder::new()
            .name("link".into())
            .spawn(move || {
                let mut from = BufReader::new(socket);
                loop {
                    let command = match framing::read::<Command>(&mut from) {
                        Ok(Some(command)) => command,
                        Ok(None) => leave(0),
                        Err(error) => {
                            log::error!("the connection to hearthd failed: {error}");
                            leave(1);
                        }
                    };
                    match command {
                        Command::Ping { seq } => {
                            reader.pong(seq);
                            continue;
                        }
                        Command::Cancel { id } => reader.abort_if(|running| running.id == id),
                        Command::Generate(ref request) => {
                            let higher = |class| request.priority < class;
                            reader.abort_if(|running| running.yields.is_some_and(higher));
                        }
                        Command::Shutdown => reader.progress.set_quit(),
                        _ => {}
                    }
                    if sender.send(command).is_err() {
                        // The tick loop has ended; the process is about to.
                        return;
                    }
                }
            })?;
        Ok((link, receiver))
    }

    /// Sends events in one write.
    pub(super) fn send(&self, events: &[Event]) {
        let mut writer = lock(&self.writer);
        let written = events
            .iter()
            .try_for_each(|event| framing::write(&mut *writer, event))
            .and_then(|()| writer.flush());
        if let Err(error) = written {
            // The daemon is gone.
            log::debug!("cannot write to the daemon: {error}");
            leave(0);
        }
    }

    /// Sets the running request, so that its decode can be aborted.
    pub(super) fn set_running(&self, now: Option<Running>) {
        let mut running = lock(&self.running);
        *running = now;
        self.progress.set_abort(false);
    }

    /// The tick loop sees the command as well; this only aborts the decode.
    fn abort_if(&self, condition: impl FnOnce(Running) -> bool) {
        let running = lock(&self.running);
        if running.is_some_and(condition) {
            self.progress.set_abort(true);
        }
    }

    fn pong(&self, seq: u64) {
        self.send(&[Event::Pong {
            seq,
            ticks: self.progress.ticks(),
            busy: self.progress.is_busy(),
        }]);
    }
}

/// A panic elsewhere leaves these values consistent, so poisoning can be ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
