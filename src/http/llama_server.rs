//! llama-server's own endpoints; completions and filling in text are here.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use hearth_api::llama_server::{
    CompletionContext, CompletionRequest, CompletionStream, completion_response, decode_completion,
    decode_embedding, decode_infill, embedding_response,
};
use hearth_proto::{Answer, Failure, FailureKind, ModelRef, Prompt, Sampling, Submission};
use serde_json::Value;

use super::body::Body;
use super::chat::{set_priority, sse_response};
use super::stream::Parts;
use super::{ApiError, Connection, lora, not_enforced, props, tokens};
use crate::caller::Caller;
use crate::daemon::Daemon;
use crate::dispatch::Candidates;

/// A failure to be sent in llama-server's form.
struct LlamaError(ApiError);

impl From<Failure> for LlamaError {
    fn from(failure: Failure) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for LlamaError {
    fn into_response(self) -> Response {
        self.0.respond(error_object)
    }
}

/// OpenAI's error object, with llama-server's type where the prompt is too long: editors shorten
/// it then.
fn error_object(failure: &Failure) -> Value {
    let mut body = ApiError::body(failure);
    if failure.kind == FailureKind::ContextTooLong {
        body["error"]["type"] = "exceed_context_size_error".into();
    }
    body
}

/// The endpoints that other APIs do not have.
pub(super) fn routes() -> Router<Daemon> {
    Router::new()
        .route("/completion", post(completion))
        .route("/completions", post(completion))
        .route("/infill", post(infill))
        .route("/embedding", post(embedding))
        .route("/apply-template", post(tokens::apply_template))
        .route("/chat/completions/input_tokens", post(tokens::input_tokens))
        .route(
            "/v1/chat/completions/input_tokens",
            post(tokens::input_tokens),
        )
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/props", get(props::props))
        .route("/slots", get(props::slots))
        .route("/lora-adapters", get(lora::adapters))
}

async fn completion(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, LlamaError> {
    let request = decode_completion(&body)?;
    answer(&daemon, &connection.0.caller(), &headers, request).await
}

async fn infill(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, LlamaError> {
    let request = decode_infill(&body)?;
    answer(&daemon, &connection.0.caller(), &headers, request).await
}

async fn embedding(
    State(daemon): State<Daemon>,
    connection: Connection,
    body: Body,
) -> Result<Json<Value>, LlamaError> {
    let request = decode_embedding(&body)?;
    let caller = connection.0.caller();
    let model = ModelRef::from(request.model.as_deref());
    let made = daemon.dispatcher.embed(&caller, &model, request.texts);
    Ok(Json(embedding_response(&made.await?.vectors)))
}

async fn answer(
    daemon: &Daemon,
    caller: &Caller,
    headers: &HeaderMap,
    mut request: CompletionRequest,
) -> Result<Response, LlamaError> {
    prepare(daemon, headers, &mut request)?;
    let prompts = prompts(daemon, caller, &request).await?;
    let candidates = daemon
        .dispatcher
        .submit_all(caller, &request.submissions, 1)
        .await?;
    let places = candidates.not_enforced().to_vec();
    let mut response = if request.stream {
        stream_answers(daemon, candidates, request, prompts).await?
    } else {
        collect_answers(daemon, candidates, &request, prompts).await?
    };
    not_enforced::name(&places, &mut response);
    Ok(response)
}

async fn collect_answers(
    daemon: &Daemon,
    candidates: Candidates,
    request: &CompletionRequest,
    prompts: Vec<String>,
) -> Result<Response, LlamaError> {
    let contexts = contexts(request, prompts);
    let answers = candidates.collect().await?;
    let model = answers.first().map_or("", |answer| answer.model.as_str());
    let defaults = defaults(daemon, model);
    let told = |(index, (answer, context)): (usize, (&Answer, &CompletionContext))| {
        let settings = request.settings(index, &defaults);
        completion_response(index, answer, context, settings, &request.form)
    };
    let mut told: Vec<Value> = (answers.iter().zip(&contexts))
        .enumerate()
        .map(told)
        .collect();
    if request.is_list {
        return Ok(Json(told).into_response());
    }
    Ok(Json(told.pop().ok_or_else(Failure::cancelled)?).into_response())
}

/// Sets what the answers report: the bound on an answer, and its seed.
fn prepare(
    daemon: &Daemon,
    headers: &HeaderMap,
    request: &mut CompletionRequest,
) -> Result<(), Failure> {
    let default_max = Some(daemon.config.get().sampling.max_tokens).filter(|n| *n > 0);
    for submission in &mut request.submissions {
        set_priority(submission, headers)?;
        let generate = &mut submission.request;
        generate.max_tokens = generate.max_tokens.or(default_max);
        let seed = &mut generate.sampling.seed;
        seed.get_or_insert_with(|| fastrand::u32(..));
    }
    Ok(())
}

/// The texts of the prompts. Only an engine knows that of tokens.
async fn prompts(
    daemon: &Daemon,
    caller: &Caller,
    request: &CompletionRequest,
) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::with_capacity(request.submissions.len());
    for submission in &request.submissions {
        texts.push(match &submission.request.prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Infill(infill) => infill.prompt.clone(),
            Prompt::Mixed(_) | Prompt::Chat { .. } => {
                let rendering = daemon.dispatcher.render(caller, submission.clone());
                rendering.await?.text
            }
        });
    }
    Ok(texts)
}

fn contexts(request: &CompletionRequest, prompts: Vec<String>) -> Vec<CompletionContext> {
    let submissions = request.submissions.iter();
    let context = |(prompt, submission): (String, &Submission)| CompletionContext {
        prompt,
        max_tokens: submission.request.max_tokens,
        is_timed: submission.request.predict_ms.is_some(),
    };
    prompts.into_iter().zip(submissions).map(context).collect()
}

/// The sampling of a model where a request sets none.
fn defaults(daemon: &Daemon, model: &str) -> Sampling {
    let pool = daemon.pool.status();
    let info = pool.get(model).and_then(|resident| resident.info.clone());
    info.map(|info| *info.sampling).unwrap_or_default()
}

/// Server-sent events without `[DONE]` at the end, as from llama-server.
async fn stream_answers(
    daemon: &Daemon,
    candidates: Candidates,
    request: CompletionRequest,
    prompts: Vec<String>,
) -> Result<Response, LlamaError> {
    let model = candidates.model().to_owned();
    let (contexts, form) = (contexts(&request, prompts), request.form.clone());
    let (daemon, name) = (daemon.clone(), model.clone());
    let settings = move |index| request.settings(index, &defaults(&daemon, &name));
    let chunks = CompletionStream::new(&model, contexts, settings, form);
    let parts = Parts::open(candidates, chunks).await?;
    Ok(sse_response(stream::unfold(parts, |mut parts| async {
        let object = match parts.next().await? {
            Ok(object) => object,
            Err(failure) => error_object(&failure),
        };
        let event = sse::Event::default().data(object.to_string());
        Some((Ok::<_, Infallible>(event), parts))
    })))
}
