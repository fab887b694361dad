//! Which hosts and origins requests over TCP may name, and cross-origin requests of browsers
//! (CORS).
//!
//! A web page of any site can send requests to 127.0.0.1, and with DNS rebinding even read
//! the answers. Its `Host` or `Origin` header then names another host.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use hearth_proto::{Failure, FailureKind};
use nix::unistd::gethostname;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::{ApiError, anthropic, not_enforced};
use crate::config::HttpConfig;
use crate::daemon::Daemon;

/// How long a browser may keep the answer to a preflight (what Chromium allows at most).
const PREFLIGHT_AGE: Duration = Duration::from_hours(2);

/// Passes on only requests whose headers name this machine or a configured host or origin.
pub(super) async fn check(State(daemon): State<Daemon>, request: Request, next: Next) -> Response {
    let config = daemon.config.get();
    let refused = match refusal(
        &config.http,
        &machine(),
        request.version(),
        request.headers(),
    ) {
        None => return next.run(request).await,
        Some(message) => Failure::new(FailureKind::AccessDenied, message),
    };
    ApiError::new(StatusCode::FORBIDDEN, refused)
        .respond_at(request.uri().path(), request.headers())
}

/// Answers preflights, and lets the scripts of allowed origins read the answers.
pub(super) fn layer(daemon: Daemon) -> CorsLayer {
    let is_allowed = move |origin: &axum::http::HeaderValue, _: &axum::http::request::Parts| {
        let config = daemon.config.get();
        origin
            .to_str()
            .is_ok_and(|origin| allows_origin(&config.http, &machine(), origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            header::RETRY_AFTER,
            anthropic::ID_HEADER,
            not_enforced::HEADER,
        ])
        .allow_private_network(true)
        .max_age(PREFLIGHT_AGE)
}

/// This machine's name, in lower case; empty if it has none.
fn machine() -> String {
    let name = gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_default().to_ascii_lowercase()
}

/// Why a request is refused.
fn refusal(
    config: &HttpConfig,
    machine: &str,
    version: Version,
    headers: &HeaderMap,
) -> Option<String> {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let is_allowed = match text(header::HOST) {
        Some(host) => allows_host(config, machine, &format!("http://{host}/")),
        // HTTP/1.0 has no such header, and no browser speaks it.
        None => version == Version::HTTP_10,
    };
    if !is_allowed {
        return Some(
            "the `Host` header must name this machine: use http://localhost:11434, or add the \
             name to `http.hosts`"
                .to_owned(),
        );
    }
    let origin = text(header::ORIGIN).filter(|origin| !allows_origin(config, machine, origin))?;
    let is_listed = config.origins.iter().any(|p| matches_pattern(p, origin));
    Some(if is_listed {
        format!("the origin {origin} is allowed only with a token: set `http.token_file`")
    } else {
        format!("the origin {origin} is not allowed: add it to `http.origins`")
    })
}

/// Whether a URI names this machine.
fn allows_host(config: &HttpConfig, machine: &str, uri: &str) -> bool {
    let uri = uri.parse::<Uri>().ok();
    let Some(host) = uri.as_ref().and_then(Uri::host) else {
        return false;
    };
    let host = host.to_ascii_lowercase();
    let is_own = |name: &str| !name.is_empty() && (host == name || host == format!("{name}.local"));
    matches!(
        host.as_str(),
        "localhost" | "127.0.0.1" | "[::1]" | "host.docker.internal"
    ) || is_own(machine)
        || config
            .hosts
            .iter()
            .any(|name| host.eq_ignore_ascii_case(name))
}

/// Whether the scripts of an origin may send requests: pages of this machine, and with a
/// token those that are configured.
fn allows_origin(config: &HttpConfig, machine: &str, origin: &str) -> bool {
    let is_page = origin.starts_with("http://") || origin.starts_with("https://");
    let is_configured = || config.origins.iter().any(|p| matches_pattern(p, origin));
    is_page && allows_host(config, machine, origin) || config.token.is_some() && is_configured()
}

/// Whether an origin is the pattern, or begins as it does up to its `*`.
fn matches_pattern(pattern: &str, origin: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => origin.len() > beginning.len() && origin.starts_with(beginning),
        None => origin == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Token;

    fn config(token: bool) -> HttpConfig {
        HttpConfig {
            hosts: vec!["proxy.example".into()],
            token: token.then(|| Token::parse("secret").unwrap()),
            ..HttpConfig::default()
        }
    }

    fn refused(config: &HttpConfig, host: &str, origin: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        refusal(config, "pi", Version::HTTP_11, &headers)
    }

    #[test]
    fn hosts_of_this_machine_and_configured_ones_are_served() {
        for host in [
            "localhost:11434",
            "LOCALHOST",
            "127.0.0.1",
            "[::1]:11434",
            "pi:11434",
            "Pi.local",
            "host.docker.internal:11434",
            "Proxy.Example",
        ] {
            assert_eq!(refused(&config(false), host, None), None, "{host}");
        }
        for host in [
            "evil.example:11434",
            "localhost.evil.example",
            "pi.evil",
            ".local",
        ] {
            assert!(refused(&config(false), host, None).is_some(), "{host}");
        }
    }

    #[test]
    fn only_http_1_0_may_name_no_host() {
        let none = HeaderMap::new();
        let served = |version| refusal(&config(false), "pi", version, &none).is_none();
        assert!(served(Version::HTTP_10));
        assert!(!served(Version::HTTP_11));
        // Without a name of the machine no empty host is its own.
        let unnamed = |host: &str| allows_host(&config(false), "", &format!("http://{host}/"));
        assert!(!unnamed(".local"));
    }

    #[test]
    fn pages_of_this_machine_are_served_and_other_sites_are_not() {
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://pi.local:8123",
        ] {
            assert_eq!(
                refused(&config(false), "localhost", Some(origin)),
                None,
                "{origin}"
            );
        }
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
        ] {
            let message = refused(&config(true), "localhost", Some(origin)).unwrap();
            assert!(message.contains("http.origins"), "{message}");
        }
    }

    #[test]
    fn editors_and_extensions_need_a_token() {
        for origin in [
            "vscode-webview://a1b2",
            "chrome-extension://abc",
            "app://obsidian.md",
        ] {
            assert_eq!(
                refused(&config(true), "localhost", Some(origin)),
                None,
                "{origin}"
            );
            let message = refused(&config(false), "localhost", Some(origin)).unwrap();
            assert!(message.contains("http.token_file"), "{message}");
        }
    }
}
