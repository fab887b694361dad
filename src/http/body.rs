//! Request bodies: read completely, within a timeout and a limit of their total size.

use std::ops::Deref;
use std::time::Duration;

use axum::body::{Body as Incoming, Bytes, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt as _;
use hearth_proto::{Failure, FailureKind};

use super::ApiError;
use super::budget::{Allocation, Budget};
use crate::caller::Principal;
use crate::daemon::Daemon;

/// Bodies up to this size are always read: the limit on connections bounds them, and chats
/// of usual length are not refused because other clients send large ones.
const SMALL: usize = 64 * 1024;
/// This many bodies of the largest size are read at once, half of them for one caller: with
/// the default of 8 MiB, all bodies together take less than 64 MiB.
const LARGE_AT_ONCE: usize = 8;
/// A body with pictures or sounds: one of the largest, in base64, and a conversation.
const WITH_MEDIA: usize = 24 << 20;
/// Where pictures and sounds may be sent.
const MEDIA_PATHS: [&str; 8] = [
    TRANSCRIPTIONS,
    "/v1/chat/completions",
    "/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
];
/// Where every body is a form with a sound.
const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";
/// What only a body with pictures or sounds contains: a text alone has the lower limit.
const MEDIA_MARKS: [&[u8]; 4] = [
    b";base64,",
    b"\"base64\"",
    b"\"images\"",
    b"\"input_audio\"",
];
/// Seconds after which a refused client may try again.
const RETRY_S: u32 = 5;

/// A complete request body.
#[derive(Debug)]
pub(super) struct Body(Bytes);

impl From<Body> for Incoming {
    fn from(body: Body) -> Self {
        body.0.into()
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The budget for the total size of bodies, and the caller that uses it.
#[derive(Clone, Debug)]
pub(super) struct BodyBudget {
    pub(super) bodies: Budget,
    pub(super) caller: Principal,
}

impl FromRequest<Daemon> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, daemon: &Daemon) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let http = daemon.config.get().http.clone();
        let body_max = http.body_max_mib as usize * 1024 * 1024;
        let budget = parts.extensions.get::<BodyBudget>();
        let timeout = Duration::from_secs(u64::from(http.body_s));
        let takes_media = MEDIA_PATHS.contains(&parts.uri.path());
        let mut limits = Limits::new(body_max, takes_media);
        if parts.uri.path() == TRANSCRIPTIONS {
            limits.text = limits.max;
        }
        let read = tokio::time::timeout(timeout, read(body, limits, budget));
        let read = read.await.unwrap_or_else(|_| Err(timed_out(http.body_s)));
        read.map(Self)
            .map_err(|refusal| refusal.respond_at(parts.uri.path(), &parts.headers))
    }
}

/// Limits of a body, in bytes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Without pictures and sounds.
    text: usize,
    /// Of any.
    max: usize,
    /// Of all bodies together.
    all: usize,
}

impl Limits {
    /// The limits where `text` is configured. One caller has half of what all may take: a
    /// body never has more.
    fn new(text: usize, takes_media: bool) -> Self {
        let all = text.saturating_mul(LARGE_AT_ONCE);
        let with_media = if takes_media { WITH_MEDIA } else { 0 };
        Self {
            text,
            max: text.max(with_media.min(all / 2)),
            all,
        }
    }
}

fn has_media(bytes: &[u8]) -> bool {
    let has = |mark: &&[u8]| bytes.windows(mark.len()).any(|window| window == *mark);
    MEDIA_MARKS.iter().any(has)
}

async fn read(
    body: Incoming,
    limits: Limits,
    budget: Option<&BodyBudget>,
) -> Result<Bytes, ApiError> {
    let max = limits.max;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > max {
        return Err(too_large());
    }
    let mut held: Option<Allocation> = None;
    let mut takes_media = false;
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Failure::invalid(format!(
                "the request body is incomplete ({error}): send the request again"
            ))
        })?;
        let size = bytes.len() + chunk.len();
        // A text is not read beyond its own limit.
        takes_media = takes_media || size > limits.text && (has_media(&bytes) || has_media(&chunk));
        if size > max || size > limits.text && !takes_media {
            return Err(too_large());
        }
        if let Some(budget) = budget.filter(|_| size > SMALL) {
            let all = limits.all;
            let is_granted = if let Some(allocation) = &mut held {
                allocation.grow(chunk.len(), all)
            } else {
                held = budget.bodies.allocate(budget.caller, size, all);
                held.is_some()
            };
            if !is_granted {
                return Err(over_budget());
            }
        }
        bytes.extend_from_slice(&chunk);
    }
    // The allocation ends here: a handler decodes the bytes before anything else runs.
    Ok(bytes.into())
}

fn too_large() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Failure::invalid(
            "the request body is larger than `http.body_max_mib`: shorten it, or raise the limit",
        ),
    )
}

fn timed_out(seconds: u32) -> ApiError {
    let message = format!(
        "the request body did not arrive within {seconds} s (`http.body_s`): send the request again"
    );
    ApiError::new(StatusCode::REQUEST_TIMEOUT, Failure::invalid(message))
}

fn over_budget() -> ApiError {
    let message = format!("too many large requests are being received: try again in {RETRY_S} s");
    Failure::new(FailureKind::Busy, message)
        .retry_after(RETRY_S)
        .into()
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use std::convert::Infallible;

    use super::*;

    const MAX: usize = 1 << 20;

    fn body(chunks: usize, size: usize) -> Incoming {
        let chunks = (0..chunks).map(move |_| Ok::<_, Infallible>(Bytes::from(vec![b'x'; size])));
        Incoming::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_with_or_without_a_length() {
        for (body, fits) in [
            (Incoming::from(vec![b'x'; MAX]), true),
            (Incoming::from(vec![b'x'; MAX + 1]), false),
            (body(16, MAX / 16), true),
            (body(17, MAX / 16), false),
        ] {
            let limits = Limits::new(MAX, false);
            assert_eq!(read(body, limits, None).await.is_ok(), fits);
        }
    }

    #[tokio::test]
    async fn a_body_with_a_picture_may_be_larger() {
        let limits = Limits::new(MAX, true);
        assert_eq!((limits.text, limits.max), (MAX, MAX * LARGE_AT_ONCE / 2));
        assert_eq!(Limits::new(8 << 20, true).max, WITH_MEDIA);
        assert_eq!(Limits::new(64 << 20, true).max, 64 << 20);
        let long = vec![b'x'; MAX];
        let picture = [&long[..], br#"{"url": "data:image/png;base64,"}"#].concat();
        let text = [&long[..], b"{}"].concat();
        assert!(read(Incoming::from(picture), limits, None).await.is_ok());
        assert!(read(Incoming::from(text), limits, None).await.is_err());
    }

    #[tokio::test]
    async fn large_bodies_use_the_budget_and_small_ones_do_not() {
        let bodies = Budget::default();
        let caller = Principal::Uid(7);
        let budget = BodyBudget {
            bodies: bodies.clone(),
            caller,
        };
        let half = MAX * LARGE_AT_ONCE / 2;
        let _others = bodies
            .allocate(caller, half - MAX + 1, MAX * LARGE_AT_ONCE)
            .unwrap();
        let limits = Limits::new(MAX, false);
        let refused = read(body(16, MAX / 16), limits, Some(&budget)).await;
        let response = refused
            .unwrap_err()
            .respond_at("/", &axum::http::HeaderMap::new());
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "5");
        for (chunks, size) in [(15, MAX / 16), (1, SMALL)] {
            let read = read(body(chunks, size), limits, Some(&budget))
                .await
                .unwrap();
            assert_eq!(read.len(), chunks * size);
        }
        // Everything was released.
        let rest = bodies.allocate(caller, MAX - 1, MAX * LARGE_AT_ONCE);
        assert!(rest.is_some());
    }
}
