//! The engine's end of the socket: a reader thread that answers what must not
//! wait for the tick loop.

use std::collections::HashSet;
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::backend::Progress;
use crate::protocol::{Command, Event, RequestId, framing};

/// Which requests were cancelled before the tick loop came to see it, and which
/// one runs.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    running: Option<RequestId>,
    waiting: HashSet<RequestId>,
}

/// Both directions of the socket.
#[derive(Clone, Debug)]
pub(super) struct Link {
    writer: Arc<Mutex<BufWriter<UnixStream>>>,
    cancels: Arc<Mutex<Cancels>>,
    progress: Arc<Progress>,
}

impl Link {
    /// Starts the reader thread. When the socket ends, the daemon is gone and the
    /// process exits at once, also in the middle of a decode.
    pub(super) fn start(
        socket: UnixStream,
        progress: &Arc<Progress>,
    ) -> std::io::Result<(Self, Receiver<Command>)> {
        let link = Self {
            writer: Arc::new(Mutex::new(BufWriter::new(socket.try_clone()?))),
            cancels: Arc::default(),
            progress: Arc::clone(progress),
        };
        let (sender, receiver) = channel();
        let reader = link.clone();
        std::thread::Builder::new()
            .name("link".into())
            .spawn(move || {
                let mut from = BufReader::new(socket);
                let code = loop {
                    match framing::read::<Command>(&mut from) {
                        Ok(Some(Command::Ping { seq })) => reader.pong(seq),
                        Ok(Some(Command::Cancel { id })) => reader.cancel(id),
                        Ok(Some(command)) => {
                            if sender.send(command).is_err() {
                                break 0;
                            }
                        }
                        Ok(None) => break 0,
                        Err(error) => {
                            log::error!("the daemon's socket broke: {error}");
                            break 1;
                        }
                    }
                };
                std::process::exit(code);
            })?;
        Ok((link, receiver))
    }

    /// Sends events in one write.
    pub(super) fn send(&self, events: &[Event]) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let written = events
            .iter()
            .try_for_each(|event| framing::write(&mut *writer, event))
            .and_then(|()| writer.flush());
        if let Err(error) = written {
            // Nobody is left to read: the reader thread ends the process as well.
            log::debug!("cannot write to the daemon: {error}");
            std::process::exit(0);
        }
    }

    /// Says which request runs now, so that its cancel can abort the decode; `false`
    /// if it was cancelled before.
    pub(super) fn set_running(&self, id: RequestId) -> bool {
        let mut cancels = self.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        if cancels.waiting.remove(&id) {
            return false;
        }
        self.progress.set_abort(false);
        cancels.running = Some(id);
        true
    }

    /// Nothing runs any more.
    pub(super) fn clear_running(&self) {
        let mut cancels = self.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        cancels.running = None;
        self.progress.set_abort(false);
    }

    fn cancel(&self, id: RequestId) {
        let mut cancels = self.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        if cancels.running == Some(id) {
            self.progress.set_abort(true);
        } else {
            // Not begun yet, or already over; the daemon never reuses an id.
            cancels.waiting.insert(id);
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
