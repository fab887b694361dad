//! The sockets: passed by systemd, or bound by the daemon itself.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use crate::config::HttpConfig;

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens on it.
    #[error("{} is in use: another hearthd is running; stop it, or change `http.socket`", .0.display())]
    InUse(PathBuf),
    /// Anything else at the path was not created by the daemon, which does not delete it.
    #[error("{} exists and is not a socket: remove it, or change `http.socket`", .0.display())]
    NotASocket(PathBuf),
    /// It cannot be created.
    #[error("cannot listen on {}: {}", .0.display(), .1)]
    Bind(PathBuf, io::Error),
    /// A socket that systemd passed cannot be used.
    #[error("cannot use the socket that systemd passed: {0}")]
    Inherited(io::Error),
}

/// The listening sockets, and the path to remove at the end if the daemon created it.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub(super) unix: Vec<UnixListener>,
    /// Only from systemd: `hearthd-tcp.socket`.
    pub(super) tcp: Vec<TcpListener>,
    own: Option<PathBuf>,
}

/// Unix listeners from systemd (`LISTEN_FDS`), else one that the daemon binds.
pub(super) fn listeners(config: &HttpConfig) -> Result<Listeners, SocketError> {
    let mut inherited = ListenFd::from_env();
    if inherited.len() > 0 {
        let mut listeners = Listeners::default();
        for n in 0..inherited.len() {
            // Each call rejects a socket of the other kind and leaves it in place.
            if let Ok(Some(listener)) = inherited.take_unix_listener(n) {
                listeners
                    .unix
                    .push(listen(listener).map_err(SocketError::Inherited)?);
            } else if let Some(listener) = inherited
                .take_tcp_listener(n)
                .map_err(SocketError::Inherited)?
            {
                listeners
                    .tcp
                    .push(tcp(listener).map_err(SocketError::Inherited)?);
            }
        }
        return Ok(listeners);
    }
    if config.socket.as_os_str().is_empty() {
        return Ok(Listeners::default());
    }
    let listener = bind(&config.socket, config.socket_mode().unwrap_or(0o660))?;
    Ok(Listeners {
        unix: vec![listener],
        tcp: Vec::new(),
        own: Some(config.socket.clone()),
    })
}

impl Drop for Listeners {
    /// Removes the daemon's own socket; one of systemd's stays.
    fn drop(&mut self) {
        if let Some(path) = &self.own {
            _ = fs::remove_file(path);
        }
    }
}

fn tcp(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn listen(listener: StdListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Binds a path. A socket that nobody listens on, left by a killed daemon, is replaced.
fn bind(path: &Path, mode: u32) -> Result<UnixListener, SocketError> {
    use std::os::unix::fs::FileTypeExt as _;
    let failed = |e| SocketError::Bind(path.to_owned(), e);
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(SocketError::InUse(path.to_owned()));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // Bound under another name and renamed once its mode is set: nobody can connect in
    // between.
    let temporary = path.with_extension("new");
    _ = fs::remove_file(&temporary);
    let listener = StdListener::bind(&temporary).map_err(failed)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    listen(listener).map_err(failed)
}
