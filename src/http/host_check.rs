//! Checks the `Host` and `Origin` headers of requests over TCP.
//!
//! A web page of any site can send requests to 127.0.0.1, and with DNS rebinding even read
//! the answers. Its `Host` or `Origin` header then names another host.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use hearth_proto::{Failure, FailureKind};

use super::ApiError;

/// Passes on only requests whose headers name this machine.
pub(super) async fn check(request: Request, next: Next) -> Response {
    if is_local(request.headers()) {
        return next.run(request).await;
    }
    let failure = Failure::new(
        FailureKind::AccessDenied,
        "the `Host` and `Origin` headers must name localhost: use http://localhost:11434",
    );
    ApiError::new(StatusCode::FORBIDDEN, failure).respond_at(request.uri().path())
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let host = text(header::HOST).is_some_and(|host| is_loopback(&format!("http://{host}/")));
    let origin = text(header::ORIGIN).is_none_or(is_loopback);
    host && origin
}

fn is_loopback(uri: &str) -> bool {
    let host = uri
        .parse::<Uri>()
        .ok()
        .and_then(|u| u.host().map(str::to_owned));
    matches!(host.as_deref(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        is_local(&headers)
    }

    #[test]
    fn other_sites_are_refused() {
        assert!(local("localhost:11434", None));
        assert!(local("127.0.0.1", Some("http://localhost:3000")));
        assert!(local("[::1]:11434", None));
        assert!(!local("evil.example:11434", None));
        assert!(!local("localhost.evil.example", None));
        assert!(!local("localhost", Some("https://evil.example")));
        assert!(!local("localhost", Some("null")));
        assert!(!is_local(&HeaderMap::new()));
    }
}
