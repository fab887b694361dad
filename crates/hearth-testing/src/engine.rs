//! The engine as the daemon sees it: a function that serves a socket.

use std::sync::{Arc, Mutex, PoisonError};

use hearth_proto::{Command, Event};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::script::Script;
use crate::session;

/// Starts an engine at the other end of a socket; the task ends when the engine does.
pub type Start = dyn Fn(UnixStream) -> JoinHandle<()> + Send + Sync;

/// A command as an engine received it.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Which engine: 1 is the first that was started.
    pub engine: usize,
    /// The command.
    pub command: Command,
}

/// Engines that follow a script. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct FakeEngine {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    script: Script,
    started: usize,
    ended: usize,
    received: Vec<Received>,
}

impl FakeEngine {
    /// Engines with this script.
    pub fn new(script: Script) -> Self {
        let engine = Self::default();
        engine.set(script);
        engine
    }

    /// Sets the script of the engines that are started from now on.
    pub fn set(&self, script: Script) {
        self.with(|state| state.script = script);
    }

    /// The function that starts an engine.
    pub fn start(&self) -> Arc<Start> {
        let engine = self.clone();
        Arc::new(move |socket| {
            let (script, number) = engine.with(|state| {
                state.started += 1;
                (state.script.clone(), state.started)
            });
            let engine = engine.clone();
            tokio::spawn(async move {
                let _end = End(engine.clone());
                let record = |command: &Command| engine.record(number, command);
                session::serve(socket, script, record).await;
            })
        })
    }

    /// How many engines were started.
    pub fn started(&self) -> usize {
        self.with(|state| state.started)
    }

    /// How many engines run.
    pub fn running(&self) -> usize {
        self.with(|state| state.started - state.ended)
    }

    /// The commands that the engines received, in order, without `Ping`.
    pub fn received(&self) -> Vec<Received> {
        self.with(|state| state.received.clone())
    }

    /// Those of the commands for which `pick` returns something.
    pub fn picked<T>(&self, mut pick: impl FnMut(&Command) -> Option<T>) -> Vec<T> {
        self.with(|state| {
            let commands = state.received.iter().map(|r| &r.command);
            commands.filter_map(&mut pick).collect()
        })
    }

    fn record(&self, engine: usize, command: &Command) {
        if matches!(command, Command::Ping { .. }) {
            return;
        }
        let command = command.clone();
        self.with(|state| state.received.push(Received { engine, command }));
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts an engine as ended, also if its task was aborted.
struct End(FakeEngine);

impl Drop for End {
    fn drop(&mut self) {
        self.0.with(|state| state.ended += 1);
    }
}

/// What a task of an engine has the engine do.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send this.
    Event(Event),
    /// End without a word.
    Crash,
    /// Make no progress any more.
    Hang,
}
