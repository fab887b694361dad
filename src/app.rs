//! The composition root of the daemon: config, service, transports,
//! readiness, watchdog, reload, drain.

mod pressure;
mod prewarm;
mod simulated;
mod sockets;
mod token;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use sd_notify::NotifyState;
use simulated::Simulated;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, ConfigError, Layer, parse_layers};
use crate::daemon::Daemon;
use crate::engines::Launcher;
use crate::{dbus, http};
use hearth_policy::simulator::Board;

/// The command-line options.
#[derive(Clone, Debug)]
pub struct Options {
    /// The main configuration file; `<file>.d/*.toml` are its drop-ins.
    pub config: PathBuf,
    /// Whether the file must exist.
    pub config_required: bool,
    /// A board to simulate instead of reading this machine's sensors, and the temperature
    /// of its air in °C.
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
    /// Neither bus nor socket: no client could reach the daemon.
    #[error(
        "nothing to serve on: no D-Bus ({0}), and no socket; see `dbus.enabled` and `http.socket`"
    )]
    NoFront(String),
    /// The bus connection closed under a running daemon. This is a failure, so that systemd
    /// restarts it.
    #[error("the D-Bus connection was lost: stopped, to be started anew")]
    BusLost,
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
            "the board is simulated, its files are in {}",
            simulated.root().display()
        );
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;

    let daemon = Daemon::open(config, Launcher::Executable).await;
    let mut listeners = sockets::listeners(&daemon.config.get().http)?;
    let supervisor = tokio::spawn({
        let daemon = daemon.clone();
        async move { daemon.run().await }
    });

    let (stop, stopped) = watch::channel(false);
    let mut transports = Vec::new();
    let has_socket = !listeners.unix.is_empty();
    let until_stop = || {
        let mut stopped = stopped.clone();
        async move { _ = stopped.wait_for(|s| *s).await }
    };
    let connections = http::Connections::new(daemon.clone());
    for listener in listeners.unix.drain(..) {
        let serving = connections.clone().serve_unix(listener, until_stop());
        transports.push(tokio::spawn(serving));
    }
    for listener in listeners.tcp.drain(..) {
        let serving = connections.clone().serve_tcp(listener, until_stop());
        transports.push(tokio::spawn(serving));
    }
    let bus = connect_bus(&daemon, has_socket).await?;

    let feeder = tokio::spawn(feed_watchdog(daemon.clone()));
    let simulation = simulated.map(|board| tokio::spawn(board.follow(daemon.clone())));
    pressure::watch(&daemon.board);
    notify(&[NotifyState::Ready, NotifyState::Status("ready")]);
    log::info!(version = env!("CARGO_PKG_VERSION"), dbus = bus.is_some(), socket = has_socket; "hearthd is ready");

    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            _ = hang_up.recv() => reload(options, &daemon).await,
            () = bus_lost(bus.as_ref()) => {
                log::error!("the D-Bus connection was lost");
                break Err(AppError::BusLost);
            }
        }
    };
    log::info!("stopping");
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing running answers"),
    ]);
    daemon.drain().await;
    _ = stop.send(true);
    feeder.abort();
    if let Some(simulation) = simulation {
        // Stopped before the process exits, so that its folder is removed.
        simulation.abort();
        _ = simulation.await;
    }
    // The drain is over; a client that does not read its answer gets a short grace period.
    let rest = async {
        _ = supervisor.await;
        for transport in transports {
            _ = transport.await;
        }
    };
    _ = tokio::time::timeout(Duration::from_secs(3), rest).await;
    drop(listeners);
    ended
}

/// The bus connection, if there is a bus: the socket is still useful without it.
async fn connect_bus(
    daemon: &Daemon,
    has_socket: bool,
) -> Result<Option<zbus::Connection>, AppError> {
    if !daemon.config.get().dbus.enabled {
        return if has_socket {
            Ok(None)
        } else {
            Err(AppError::NoFront("disabled".into()))
        };
    }
    match dbus::serve(daemon).await {
        Ok(connection) => Ok(Some(connection)),
        Err(error) if has_socket => {
            log::warn!("no D-Bus ({error}): serving the socket only");
            Ok(None)
        }
        Err(error) => Err(AppError::NoFront(error.to_string())),
    }
}

async fn bus_lost(bus: Option<&zbus::Connection>) {
    match bus {
        Some(connection) => connection.closed().await,
        None => std::future::pending().await,
    }
}

async fn reload(options: &Options, daemon: &Daemon) {
    // systemd 252 knows no notify-reload: ExecReload sends SIGHUP, and these two
    // lines bracket it for newer ones.
    notify(&[NotifyState::Reloading]);
    let options = options.clone();
    let loaded = tokio::task::spawn_blocking(move || load_config(&options));
    let loaded = loaded.await.map_err(|error| AppError::Io(error.into()));
    match loaded.flatten() {
        Ok(config) => {
            daemon.set_config(config);
            log::info!("configuration read anew; model settings hold from the next load on");
        }
        Err(error) => log::error!("configuration not changed: {error}"),
    }
    notify(&[NotifyState::Ready]);
}

/// Feeds systemd's watchdog, but only while the supervisor advances: an engine
/// that hangs and cannot be replaced must not look alive.
async fn feed_watchdog(daemon: Daemon) {
    let Some(timeout) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut interval = tokio::time::interval(timeout / 2);
    loop {
        interval.tick().await;
        if daemon.pool.is_advancing() {
            notify(&[NotifyState::Watchdog]);
        } else {
            log::error!("the supervisor makes no progress: not feeding the watchdog");
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("cannot notify systemd: {error}");
    }
}
