//! The page at `/` for browsers. People at a command line get a list of the endpoints, and
//! other programs what Ollama answers: that is how they look for it.

use std::sync::LazyLock;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The whole page: style and script are inline, and it fetches only from this server.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("page/page.html")
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT)
});

/// What the page may do (Content Security Policy, level 3): its own style and script, by
/// their digests, and requests to its origin. A model's answer that was interpreted as
/// HTML, or a browser extension, cannot extend that.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |content: &str| STANDARD.encode(Sha256::digest(content));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    )
});

const ABOUT: &str = concat!(
    "Hearthd ",
    env!("CARGO_PKG_VERSION"),
    ": a local service for language models.\n",
    "OpenAI's: POST /v1/chat/completions, POST /v1/completions, POST /v1/responses, POST /v1/embeddings, POST /v1/audio/transcriptions, GET /v1/models\n",
    "Anthropic's: POST /v1/messages, POST /v1/messages/count_tokens\n",
    "llama-server's: POST /completion, POST /infill, POST /embedding, POST /v1/rerank, POST /apply-template, POST /tokenize, POST /detokenize, GET /props, GET /slots, GET /lora-adapters\n",
    "Ollama's: POST /api/chat, POST /api/generate, POST /api/embed, POST /api/embeddings, GET /api/tags, GET /api/ps, POST /api/show, POST /api/pull, POST /api/push, POST /api/create, POST /api/blobs/…, POST /api/copy, DELETE /api/delete, GET /api/version\n",
    "The service: GET /health, GET /metrics\n",
    "Browsers get a page with a chat and the state of the board.\n"
);

/// What Ollama answers at `/`. Programs compare it to learn whether it runs.
const OLLAMA: &str = "Ollama is running";
/// What an answer at `/` depends on.
const VARY: &str = "Accept, User-Agent";
/// Programs by which people look at an address.
const COMMAND_LINES: [&str; 5] = ["curl", "Wget", "HTTPie", "xh", "PowerShell"];

/// Who asks for `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visitor {
    Browser,
    CommandLine,
    Program,
}

impl Visitor {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let accepted = text(header::ACCEPT).unwrap_or_default();
        if accepted.contains("text/html") {
            return Self::Browser;
        }
        let agent = text(header::USER_AGENT);
        let is_command = |agent: &str| COMMAND_LINES.iter().any(|name| agent.contains(name));
        if accepted.contains("text/plain") || agent.is_none_or(is_command) {
            Self::CommandLine
        } else {
            Self::Program
        }
    }
}

pub(super) async fn page(headers: HeaderMap) -> Response {
    match Visitor::of(&headers) {
        Visitor::Browser => {}
        Visitor::CommandLine => return ([(header::VARY, VARY)], ABOUT).into_response(),
        Visitor::Program => return ([(header::VARY, VARY)], OLLAMA).into_response(),
    }
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::VARY, VARY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn people_and_programs_are_told_apart() {
        for (agent, accept, expected) in [
            ("Mozilla/5.0", "text/html,*/*;q=0.8", Visitor::Browser),
            // A script of a page.
            ("Mozilla/5.0", "*/*", Visitor::Program),
            ("curl/8.14.1", "*/*", Visitor::CommandLine),
            ("Wget/1.25.0", "*/*", Visitor::CommandLine),
            ("", "", Visitor::CommandLine),
            ("python-httpx/0.28.1", "text/plain", Visitor::CommandLine),
            ("python-httpx/0.28.1", "*/*", Visitor::Program),
            (
                "ollama/0.12.0 (amd64 linux) Go/go1.24.0",
                "",
                Visitor::Program,
            ),
            ("node", "application/json", Visitor::Program),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::USER_AGENT, agent), (header::ACCEPT, accept)] {
                if !value.is_empty() {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(Visitor::of(&headers), expected, "{agent} {accept}");
        }
    }
}
