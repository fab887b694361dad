//! Authentication of requests over TCP by a bearer token: TCP does not identify the user.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use hearth_proto::{Failure, FailureKind};

use super::ApiError;
use crate::daemon::Daemon;

/// Where clients of Anthropic's API put their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Marks a request without the required token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unauthenticated;

/// Passes on requests with the configured token. Without it a client can only get the page
/// at `/`, and from `/health` whether the service is healthy.
pub(super) async fn check(
    State(daemon): State<Daemon>,
    mut request: Request,
    next: Next,
) -> Response {
    let presented = presented(request.headers());
    let is_authenticated = match &daemon.config.get().http.token {
        None => true,
        Some(token) => presented.is_some_and(|text| token.matches(text.as_bytes())),
    };
    let challenge = match presented {
        None => "Bearer",
        Some(_) => "Bearer error=\"invalid_token\"",
    };
    match request.uri().path() {
        _ if is_authenticated => next.run(request).await,
        "/" | "/health" => {
            request.extensions_mut().insert(Unauthenticated);
            next.run(request).await
        }
        path => {
            let failure = Failure::new(
                FailureKind::AccessDenied,
                "a token is required: send it as `Authorization: Bearer …` or `X-Api-Key: …` (the \
                 API key in most clients)",
            );
            let mut response = ApiError::new(StatusCode::UNAUTHORIZED, failure)
                .respond_at(path, request.headers());
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response
        }
    }
}

/// The token that a request has: a bearer token, or the key in the header that clients of
/// Anthropic's API send.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    let bearer = text(&AUTHORIZATION)
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token);
    bearer.or_else(|| text(&API_KEY)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_either_header() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, header.parse().unwrap());
            assert_eq!(presented(&headers), token, "{header}");
            headers.insert(API_KEY, "key".parse().unwrap());
            assert_eq!(presented(&headers), token.or(Some("key")), "{header}");
        }
        assert_eq!(presented(&HeaderMap::new()), None);
    }
}
