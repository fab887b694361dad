//! Starts and stops the daemon: configuration, owners, transports, readiness, watchdog,
//! reload, drain.

mod bus;
mod pressure;
mod prewarm;
mod simulated;
mod sockets;
mod token;

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use hearth_policy::simulator::Board;
use sd_notify::NotifyState;
use simulated::Simulated;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, ConfigError, Layer, parse_layers};
use crate::daemon::Daemon;
use crate::engines::Launcher;
use crate::http;

/// The command-line options.
#[derive(Clone, Debug)]
pub struct Options {
    /// The main configuration file; `<file>.d/*.toml` are its drop-ins.
    pub config: PathBuf,
    /// Whether the file must exist.
    pub config_required: bool,
    /// A board to simulate instead of reading this machine's sensors, and its ambient
    /// temperature in °C.
    pub simulate: Option<(&'static Board, f64)>,
}

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A file that a `[[prewarm]]` table names cannot be used.
    #[error("{0}")]
    Prewarm(String),
    /// The file with the token for TCP cannot be used.
    #[error("`http.token_file`: {0}")]
    Token(String),
    /// A configuration file cannot be read.
    #[error("cannot read {path}: {source}", path = .0.display(), source = .1)]
    Read(PathBuf, std::io::Error),
    /// The simulated board's files cannot be written.
    #[error("cannot simulate a board: {0}")]
    Simulate(std::io::Error),
    /// A socket cannot be opened.
    #[error("{0}")]
    Socket(#[from] sockets::SocketError),
    /// Neither D-Bus nor a socket is available: no client could reach the daemon.
    #[error(
        "no transport is available: no socket, and no D-Bus ({0}); check `http.socket` and `dbus.enabled`"
    )]
    NoTransport(String),
    /// The bus connection closed under a running daemon that has no socket. This is a failure,
    /// so that systemd restarts it.
    #[error("the D-Bus connection was lost: exiting, so that systemd restarts the service")]
    BusLost,
    /// The bus connection closed under a running daemon, and the bus is there again. What
    /// callers on the bus had ends with the process.
    #[error("D-Bus is available again: exiting, so that systemd restarts the service")]
    BusBack,
    /// The runtime cannot be started.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Runs the daemon until it is told to stop.
pub fn run(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime
        .map_err(AppError::Io)
        .and_then(|runtime| runtime.block_on(serve(options)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            notify(&[NotifyState::Status(&error.to_string())]);
            ExitCode::FAILURE
        }
    }
}

/// Reads and checks the configuration.
///
/// # Errors
/// [`AppError::Config`] with file and line, [`AppError::Read`], [`AppError::Prewarm`],
/// [`AppError::Token`].
pub fn load_config(options: &Options) -> Result<Config, AppError> {
    let mut layers = Vec::new();
    match fs::read_to_string(&options.config) {
        Ok(text) => layers.push(Layer {
            path: options.config.clone(),
            text,
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !options.config_required => {}
        Err(e) => return Err(AppError::Read(options.config.clone(), e)),
    }
    for path in drop_ins(&options.config) {
        let text = fs::read_to_string(&path).map_err(|e| AppError::Read(path.clone(), e))?;
        layers.push(Layer { path, text });
    }
    let mut config = parse_layers(&layers)?;
    prewarm::read_files(&mut config).map_err(AppError::Prewarm)?;
    config.http.token = token::read(&config.http.token_file).map_err(AppError::Token)?;
    Ok(config)
}

fn drop_ins(config: &Path) -> Vec<PathBuf> {
    let mut folder = config.as_os_str().to_owned();
    folder.push(".d");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    paths.sort();
    paths
}

async fn serve(options: &Options) -> Result<(), AppError> {
    let mut config = load_config(options)?;
    let simulated = options.simulate;
    let simulated = simulated.map(|(board, ambient)| Simulated::new(board, ambient));
    let simulated = simulated.transpose().map_err(AppError::Simulate)?;
    if let Some(simulated) = &simulated {
        config.paths.sensors_root = simulated.root();
        log::warn!(
            "the board is simulated; its sensor files are in {}",
            simulated.root().display()
        );
    }
    let mut signals = Signals::new()?;
    let daemon = Daemon::open(config, Launcher::Executable).await;
    let listeners = sockets::listeners(&daemon.config.get().http)?;
    let has_socket = !listeners.unix.is_empty() || !listeners.tcp.is_empty();
    let mut tasks = Tasks::start(&daemon, listeners);
    let bus = bus::connect(&daemon, has_socket).await?;
    tasks.watchdog = Some(tokio::spawn(notify_watchdog(daemon.clone())));
    tasks.simulation = simulated.map(|board| tokio::spawn(board.follow(daemon.clone())));
    pressure::watch(&daemon.board);
    notify(&[NotifyState::Ready, NotifyState::Status("ready")]);
    log::info!(version = env!("CARGO_PKG_VERSION"), dbus = bus.is_some(), socket = has_socket; "hearthd is ready");

    let mut bus_ended = pin!(bus::ended(bus, has_socket));
    let ended = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Ok(()),
            _ = signals.interrupt.recv() => break Ok(()),
            _ = signals.hang_up.recv() => reload(options, &daemon).await,
            error = &mut bus_ended => break Err(error),
        }
    };
    log::info!("stopping");
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing running answers"),
    ]);
    daemon.drain().await;
    tasks.stop().await;
    ended
}

/// The signals that the daemon handles.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// The daemon's tasks, and the sockets that they serve.
struct Tasks {
    listeners: sockets::Listeners,
    supervisor: JoinHandle<()>,
    transports: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    watchdog: Option<JoinHandle<()>>,
    simulation: Option<JoinHandle<()>>,
}

impl Tasks {
    /// Starts the owners and serves the sockets.
    fn start(daemon: &Daemon, mut listeners: sockets::Listeners) -> Self {
        let supervisor = tokio::spawn({
            let daemon = daemon.clone();
            async move { daemon.run().await }
        });
        let (stop, stopped) = watch::channel(false);
        let until_stop = || {
            let mut stopped = stopped.clone();
            async move { _ = stopped.wait_for(|s| *s).await }
        };
        let connections = http::Connections::new(daemon.clone());
        let mut transports = Vec::new();
        for listener in listeners.unix.drain(..) {
            let serving = connections.clone().serve_unix(listener, until_stop());
            transports.push(tokio::spawn(serving));
        }
        for listener in listeners.tcp.drain(..) {
            let serving = connections.clone().serve_tcp(listener, until_stop());
            transports.push(tokio::spawn(serving));
        }
        Self {
            listeners,
            supervisor,
            transports,
            stop,
            watchdog: None,
            simulation: None,
        }
    }

    /// Stops the tasks after the drain.
    async fn stop(self) {
        _ = self.stop.send(true);
        if let Some(watchdog) = self.watchdog {
            watchdog.abort();
        }
        if let Some(simulation) = self.simulation {
            // Stopped before the process exits, so that its folder is removed.
            simulation.abort();
            _ = simulation.await;
        }
        // A client that does not read its answer gets a short grace period.
        let rest = async {
            _ = self.supervisor.await;
            for transport in self.transports {
                _ = transport.await;
            }
        };
        _ = tokio::time::timeout(Duration::from_secs(3), rest).await;
        drop(self.listeners);
    }
}

async fn reload(options: &Options, daemon: &Daemon) {
    // systemd 252 has no Type=notify-reload: ExecReload sends SIGHUP, and these two
    // notifications mark the reload for later versions.
    notify(&[NotifyState::Reloading]);
    let options = options.clone();
    let loaded = tokio::task::spawn_blocking(move || load_config(&options));
    let loaded = loaded.await.map_err(|error| AppError::Io(error.into()));
    match loaded.flatten() {
        Ok(config) => {
            daemon.set_config(config);
            log::info!("configuration reloaded; model settings apply from the next load on");
        }
        Err(error) => {
            log::error!(
                "cannot reload the configuration, the previous one stays in force: {error}"
            );
        }
    }
    notify(&[NotifyState::Ready]);
}

/// Notifies systemd's watchdog, but only while the engine supervisor advances: a daemon
/// with an engine that hangs and cannot be replaced has to be restarted.
async fn notify_watchdog(daemon: Daemon) {
    let Some(timeout) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut interval = tokio::time::interval(timeout / 2);
    loop {
        interval.tick().await;
        if daemon.pool.is_advancing() {
            notify(&[NotifyState::Watchdog]);
        } else {
            log::error!("the engine supervisor makes no progress: the watchdog is not notified");
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("cannot notify systemd: {error}");
    }
}
