//! The page at `/` for browsers; other clients get a list of the endpoints.

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
    "Ollama's: POST /api/chat, POST /api/generate, POST /api/embed, POST /api/embeddings, GET /api/tags, GET /api/ps, POST /api/show, POST /api/pull, POST /api/copy, DELETE /api/delete, GET /api/version\n",
    "The service: GET /health, GET /metrics\n",
    "Browsers get a page with a chat and the state of the board.\n"
);

pub(super) async fn page(headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    if !accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        return ([(header::VARY, "Accept")], ABOUT).into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::VARY, "Accept"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE.as_str()).into_response()
}
