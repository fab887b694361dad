//! Bodies of requests and responses whose progress something else has to know.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

/// What is told of a body.
pub(super) trait Watcher: Send + Unpin + 'static {
    /// All of it was read.
    fn ended(&mut self) {}

    /// It is no longer needed; `rest` is what was not read, if that is not known to be nothing.
    fn dropped(&mut self, _rest: Option<Body>) {}
}

/// A body that tells this watcher.
pub(super) fn watched(body: Body, watcher: impl Watcher) -> Body {
    Body::new(Watched { body, watcher })
}

struct Watched<W: Watcher> {
    body: Body,
    watcher: W,
}

impl<W: Watcher> HttpBody for Watched<W> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            // What has ended has no rest.
            self.body = Body::empty();
        }
        if self.body.is_end_stream() {
            self.watcher.ended();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<W: Watcher> Drop for Watched<W> {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        let rest = (!body.is_end_stream()).then_some(body);
        self.watcher.dropped(rest);
    }
}
