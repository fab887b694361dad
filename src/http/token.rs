//! Requests over TCP may have to show a token: TCP does not identify the user.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::ApiError;
use crate::daemon::Daemon;
use hearth_proto::{Failure, FailureKind};

/// Marks a request that did not show the required token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger;

/// Passes on requests that show the configured token. Without it a client gets the page at
/// `/`, and from `/health` only whether the service is healthy.
pub(super) async fn check(
    State(daemon): State<Daemon>,
    mut request: Request,
    next: Next,
) -> Response {
    let shown = bearer(request.headers());
    let is_known = match &daemon.config.get().http.token {
        None => true,
        Some(token) => shown.is_some_and(|shown| token.is(shown.as_bytes())),
    };
    let challenge = match shown {
        None => "Bearer",
        Some(_) => "Bearer error=\"invalid_token\"",
    };
    match request.uri().path() {
        _ if is_known => next.run(request).await,
        "/" | "/health" => {
            request.extensions_mut().insert(Stranger);
            next.run(request).await
        }
        path => {
            let failure = Failure::new(
                FailureKind::AccessDenied,
                "a token is asked for here: send it as `Authorization: Bearer …` (an API key, in \
                 most clients)",
            );
            let mut response = ApiError::new(StatusCode::UNAUTHORIZED, failure).respond_at(path);
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response
        }
    }
}

/// The token of a request, if it shows one.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, header.parse().unwrap());
            assert_eq!(bearer(&headers), token, "{header}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
