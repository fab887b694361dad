//! The part of a request body that its handler did not read.
//!
//! A socket that is closed with unread input resets the connection, and a client that is
//! still sending loses the answer. So the rest is read and discarded before the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderValue, Response, header};
use futures_util::StreamExt as _;
use parking_lot::Mutex;

use super::watched::{Watcher, watched};

/// The most bytes that are discarded: a text of the default `http.body_max_mib`.
const DISCARD_MAX: usize = 8 << 20;
/// How long the client may take to send them.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Where a body is returned that was dropped before its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread(Arc<Mutex<Option<Body>>>);

impl Unread {
    /// A body that returns its rest here when it is dropped.
    pub(super) fn watch(&self, body: Body) -> Body {
        watched(body, self.clone())
    }

    /// Discards what was not read, and announces the end of the connection if that is too
    /// much. A client that waits for `100 Continue` has not sent its body.
    pub(super) async fn discard(self, is_awaited: bool, response: &mut Response<Body>) {
        let Some(body) = self.0.lock().take() else {
            return;
        };
        let is_read = !is_awaited
            && tokio::time::timeout(DISCARD_TIME, read(body, DISCARD_MAX))
                .await
                .unwrap_or(false);
        if !is_read {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}

/// Reads a body of at most `max` bytes; whether it has ended.
async fn read(body: Body, max: usize) -> bool {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > max {
        return false;
    }
    let mut size = 0_usize;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else { return false };
        size = size.saturating_add(chunk.len());
        if size > max {
            return false;
        }
    }
    true
}

impl Watcher for Unread {
    fn dropped(&mut self, rest: Option<Body>) {
        if rest.is_some() {
            *self.0.lock() = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures_util::stream;
    use std::convert::Infallible;

    use super::*;

    /// A body of chunks that are sent one after another.
    fn body(chunks: usize, size: usize) -> Body {
        let chunks = (0..chunks).map(move |_| Ok::<_, Infallible>(Bytes::from(vec![b'x'; size])));
        Body::from_stream(stream::iter(chunks))
    }

    async fn closes(body: Body, is_awaited: bool) -> bool {
        let unread = Unread::default();
        drop(unread.watch(body));
        let mut response = Response::new(Body::empty());
        unread.discard(is_awaited, &mut response).await;
        response.headers().contains_key(header::CONNECTION)
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_body_is_discarded() {
        assert!(!closes(Body::empty(), false).await);
        assert!(!closes(body(100, 60_000), false).await);
        assert!(closes(body(DISCARD_MAX / (1 << 20) + 1, 1 << 20), false).await);
        // Nothing was sent, and nothing will be.
        assert!(closes(body(1, 1), true).await);
        assert!(closes(Body::from(vec![0; DISCARD_MAX + 1]), false).await);
        // A client that sends nothing.
        let silent = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert!(closes(silent, false).await);
    }

    #[tokio::test]
    async fn a_body_that_was_read_is_not_returned() {
        let unread = Unread::default();
        assert!(read(unread.watch(body(3, 10)), 100).await);
        assert!(unread.0.lock().is_none());
    }
}
