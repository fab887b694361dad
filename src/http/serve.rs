//! Connections: their number, their timeouts, and the limits of their requests.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Write as _};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::http::{Request, header};
use hearth_proto::{Failure, FailureKind};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::body::BodyBudget;
use super::budget::Budget;
use super::half_close::{Exchange, HalfClose, Peered};
use super::unread::Unread;
use super::write_timeout::WriteTimeout;
use super::{ApiError, Peer};
use crate::caller::{Origin, Principal};
use crate::daemon::Daemon;

/// Largest head of a request in bytes, as the default of other servers (nginx: 32 KiB in
/// all). It has at most 100 lines, which is hyper's own bound.
const HEAD_MAX: usize = 32 * 1024;
/// Bytes that a connection buffers for reading, and as many for writing.
const BUFFER_MAX: usize = 64 * 1024;
/// Files that the daemon needs besides connections and the streams of jobs: sockets, bus,
/// journal, timers, the engine and the start of another one, sensors, model files.
const FILES_RESERVED: u64 = 64;
/// Surplus connections that are refused after their request was read; those beyond are
/// answered at once and closed.
const REFUSALS: usize = 16;
/// Timeout for such a connection to send its request, and again to read the answer.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// How long accepting pauses after it failed for lack of files or memory.
const PAUSE: Duration = Duration::from_millis(500);
/// Seconds after which a refused client may try again.
const RETRY_S: u32 = 5;

/// The state that the connections of all sockets share.
#[derive(Clone, Debug)]
pub struct Connections {
    pub(super) daemon: Daemon,
    open: Budget,
    bodies: Budget,
    refusals: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
}

/// A listening socket.
pub(super) trait Listener {
    /// Type of its connections.
    type Stream: AsyncRead + AsyncWrite + Peered + Send + Unpin + 'static;

    /// The next connection and its peer.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;

    /// Writes as much as possible without blocking, and closes.
    fn write_and_close(stream: Self::Stream, text: &[u8]) -> io::Result<()>;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        let credentials = stream.peer_cred().ok();
        let pid = credentials.and_then(|c| u32::try_from(c.pid()?).ok());
        let principal = credentials.map_or(Principal::Anonymous, |c| Principal::Uid(c.uid()));
        let origin = Origin::Unix(pid.filter(|pid| *pid > 0));
        Ok((stream, Peer::new(principal, origin)))
    }

    fn write_and_close(stream: UnixStream, text: &[u8]) -> io::Result<()> {
        stream.into_std()?.write_all(text)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    /// TCP reports no user.
    async fn next(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, Peer::new(Principal::Anonymous, Origin::Tcp)))
    }

    fn write_and_close(stream: TcpStream, text: &[u8]) -> io::Result<()> {
        stream.into_std()?.write_all(text)
    }
}

impl Connections {
    /// Creates the state without any connection.
    pub fn new(daemon: Daemon) -> Self {
        Self {
            daemon,
            open: Budget::default(),
            bodies: Budget::default(),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            refused: Arc::default(),
        }
    }

    /// Serves a socket until `stop` resolves; open answers are finished.
    pub(super) async fn serve<L: Listener>(
        &self,
        listener: L,
        app: Router,
        stop: impl Future<Output = ()>,
    ) {
        let app = TowerToHyperService::new(app);
        // Each connection holds a receiver.
        let (stopping, stopped) = watch::channel(());
        let mut stop = pin!(stop);
        let mut is_failing = false;
        loop {
            let next = tokio::select! {
                () = &mut stop => break,
                next = listener.next() => next,
            };
            match next {
                Ok((stream, peer)) => {
                    is_failing = false;
                    let who = peer.principal;
                    match self.open.allocate(who, 1, self.max()) {
                        Some(allocation) => {
                            let (connections, app) = (self.clone(), app.clone());
                            let stopped = stopped.clone();
                            tokio::spawn(async move {
                                let peer = peer.identify(&connections.daemon.board).await;
                                let exchange = Exchange::default();
                                let stream = HalfClose::new(stream, exchange.clone());
                                let budget = connections.body_budget(who);
                                let service = request_service(app, peer, budget, exchange);
                                connections.connection(stream, service, stopped).await;
                                drop(allocation);
                            });
                        }
                        None => self.refuse::<L>(stream, who),
                    }
                }
                // The client closed it before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // No files or no memory: the connection stays in the backlog, and
                    // accepting again at once would keep a core busy.
                    if !is_failing {
                        log::warn!("cannot accept connections, retrying: {error}");
                    }
                    is_failing = true;
                    tokio::select! {
                        () = &mut stop => break,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
        drop((listener, stopped));
        _ = stopping.send(());
        stopping.closed().await;
    }

    /// The most connections: as configured, and as the limit of open files allows.
    fn max(&self) -> usize {
        let config = self.daemon.config.get();
        let jobs = config.queue.length_max.saturating_add(config.engine.slots);
        let reserved = (FILES_RESERVED + REFUSALS as u64).saturating_add(u64::from(jobs));
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        // With very few files, connections get at least a quarter of them; other uses get
        // the rest.
        let available = files.saturating_sub(reserved).max(files / 4);
        let configured = usize::try_from(config.http.connections_max).unwrap_or(usize::MAX);
        configured.min(usize::try_from(available).unwrap_or(usize::MAX))
    }

    fn body_budget(&self, who: Principal) -> BodyBudget {
        BodyBudget {
            bodies: self.bodies.clone(),
            caller: who,
        }
    }

    /// Serves one connection until it is closed.
    fn connection<T, S>(
        &self,
        stream: T,
        service: S,
        mut stopped: watch::Receiver<()>,
    ) -> impl Future<Output = ()> + use<T, S>
    where
        T: AsyncRead + AsyncWrite + Unpin,
        S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
    {
        let config = self.daemon.config.get();
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        let io = TokioIo::new(WriteTimeout::new(stream, seconds(config.queue.unread_s)));
        let connection = http1::Builder::new()
            // As other servers send them: there are clients that compare names by case.
            .title_case_headers(true)
            .timer(TokioTimer::new())
            .header_read_timeout(seconds(config.http.idle_s))
            .max_header_size(HEAD_MAX)
            .max_buf_size(BUFFER_MAX)
            .serve_connection(io, service);
        async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                log::debug!("a connection ended: {error}");
            }
        }
    }

    /// Refuses a surplus connection.
    fn refuse<L: Listener>(&self, mut stream: L::Stream, who: Principal) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // Logs only each doubling, not every refusal.
        if refused.is_power_of_two() {
            log::warn!(uid:% = who, refused, max = self.max();
                "too many connections (`http.connections_max`): refusing new ones");
        }
        let text = refusal();
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else {
            _ = L::write_and_close(stream, text.as_bytes());
            return;
        };
        tokio::spawn(async move {
            // Closing while the request arrives may lose the answer.
            _ = tokio::time::timeout(REFUSAL_TIME, stream.read(&mut [0; 4096])).await;
            let answer = async {
                stream.write_all(text.as_bytes()).await?;
                stream.shutdown().await?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
            };
            _ = tokio::time::timeout(REFUSAL_TIME, answer).await;
            drop(permit);
        });
    }
}

/// A service that passes the requests of a connection to the routes, with their peer.
fn request_service(
    app: TowerToHyperService<Router>,
    peer: Peer,
    budget: BodyBudget,
    exchange: Exchange,
) -> impl HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Send> {
    service_fn(move |request: Request<Incoming>| {
        let unread = Unread::default();
        let is_awaited = request.headers().contains_key(header::EXPECT);
        let mut request = request.map(|body| unread.watch(exchange.request(Body::new(body))));
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(peer.clone()));
        extensions.insert(budget.clone());
        let answer = app.call(request);
        let exchange = exchange.clone();
        async move {
            let mut response = answer.await?;
            unread.discard(is_awaited, &mut response).await;
            Ok(response.map(|body| exchange.response(body)))
        }
    })
}

/// The request is not known yet: the form is OpenAI's, whose clients retry.
fn refusal() -> String {
    let message = format!("too many connections: close some, or try again in {RETRY_S} s");
    let body = ApiError::body(&Failure::new(FailureKind::Busy, message)).to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
         Retry-After: {RETRY_S}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
