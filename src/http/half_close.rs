//! Clients that end their sending side after the request and still read (`nc -N`, scripts with
//! `shutdown(SHUT_WR)`).
//!
//! To a server this looks like a client that has gone, which cancels its request. On a Unix
//! socket the kernel tells them apart; on TCP it does not before something is written.

use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;

use super::watched::{Watcher, watched};

/// How often a connection whose client sends no more is asked whether the client is there.
const INTERVAL: Duration = Duration::from_millis(250);

const IDLE: u8 = 0;
/// The body of a request is being read.
const READING: u8 = 1;
/// The request is complete, its answer is not.
const ANSWERING: u8 = 2;

/// A connection that can tell whether its peer has gone.
pub(super) trait Peered {
    /// Whether the peer neither sends nor reads any more. Asked after its end of sending.
    fn has_gone(&self) -> bool;
}

impl Peered for UnixStream {
    fn has_gone(&self) -> bool {
        let mut polled = [PollFd::new(self.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        match poll(&mut polled, PollTimeout::ZERO) {
            Ok(_) => polled[0].revents().is_none_or(|e| e.intersects(gone)),
            Err(_) => true,
        }
    }
}

impl Peered for TcpStream {
    fn has_gone(&self) -> bool {
        true
    }
}

/// How far the request of a connection is.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange(Arc<AtomicU8>);

impl Exchange {
    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// A request's body, whose end is recorded.
    pub(super) fn request(&self, body: Body) -> Body {
        let is_complete = body.is_end_stream();
        self.set(if is_complete { ANSWERING } else { READING });
        watched(body, RequestEnd(self.clone()))
    }

    /// The body of its response, whose end is recorded.
    pub(super) fn response(&self, body: Body) -> Body {
        watched(body, ResponseEnd(self.clone()))
    }
}

struct RequestEnd(Exchange);

impl Watcher for RequestEnd {
    fn ended(&mut self) {
        self.0.set(ANSWERING);
    }
}

struct ResponseEnd(Exchange);

impl Watcher for ResponseEnd {
    fn dropped(&mut self, _: Option<Body>) {
        self.0.set(IDLE);
    }
}

/// A connection whose end of input is not passed on while an answer is due and the client is
/// there.
#[derive(Debug)]
pub(super) struct HalfClose<T> {
    io: T,
    exchange: Exchange,
    /// Runs once the client has ended its sending side.
    next: Option<Pin<Box<Sleep>>>,
}

impl<T> HalfClose<T> {
    pub(super) fn new(io: T, exchange: Exchange) -> Self {
        Self {
            io,
            exchange,
            next: None,
        }
    }
}

impl<T: AsyncRead + Peered + Unpin> AsyncRead for HalfClose<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.next.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if self.exchange.get() == IDLE || self.io.has_gone() {
                return Poll::Ready(Ok(()));
            }
            // The handler may not have seen the end of the body that was just read.
            self.next = Some(Box::pin(tokio::time::sleep(INTERVAL)));
        }
        while let Some(next) = &mut self.next {
            ready!(next.as_mut().poll(cx));
            let is_due = self.exchange.get() == ANSWERING && !self.io.has_gone();
            self.next = is_due.then(|| Box::pin(tokio::time::sleep(INTERVAL)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HalfClose<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn connection(state: u8) -> (HalfClose<UnixStream>, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let exchange = Exchange::default();
        exchange.set(state);
        (HalfClose::new(near, exchange), far)
    }

    #[tokio::test]
    async fn end_of_input_is_kept_back_while_the_client_reads() {
        let (mut near, mut far) = connection(ANSWERING);
        far.write_all(b"x").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        let exchange = near.exchange.clone();
        let read = async {
            let mut bytes = [0];
            near.read(&mut bytes).await.unwrap()
        };
        let mut read = std::pin::pin!(read);
        let waits = tokio::time::timeout(2 * INTERVAL, read.as_mut()).await;
        assert!(waits.is_err());
        exchange.set(IDLE);
        assert_eq!(read.await, 0);
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_noticed() {
        for (state, closes) in [(IDLE, false), (READING, false), (ANSWERING, true)] {
            let (mut near, mut far) = connection(state);
            far.shutdown().await.unwrap();
            if closes {
                drop(far);
            }
            assert_eq!(near.read(&mut [0]).await.unwrap(), 0, "{state}");
        }
    }
}
