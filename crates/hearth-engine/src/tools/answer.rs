//! Answers one request.

use std::io::{self, Write as _};
use std::sync::Arc;

use hearth_proto::{AnswerPart, Event, Failure, FailureKind, GenerateRequest, Limits, LoadRequest};
use serde_json::json;

use super::chat;
use crate::backend::{Backend, Loader as _};
use crate::clock;
use crate::llama::LlamaLoader;
use crate::worker::Worker;

/// Answers one request, writing the text to standard output as it is generated.
///
/// # Errors
/// Those of loading and of the request.
pub fn answer(
    loader: &LlamaLoader,
    load: &LoadRequest,
    request: &GenerateRequest,
) -> Result<Event, Failure> {
    let backend = loader.load(load, &Arc::default(), Box::new(|_| ()))?;
    let chat = chat(&backend)?;
    let mut worker = Worker::new(backend, chat, None, load.lookup_tokens);
    let mut say = |part: AnswerPart| {
        let shown = match part {
            AnswerPart::Content(text) => print(&text),
            AnswerPart::Reasoning(_) => Ok(()),
            AnswerPart::ToolCall(call) => {
                print(&json!({"name": call.name, "arguments": call.arguments}).to_string())
            }
        };
        shown.map_err(|e| Failure::new(FailureKind::Io, e.to_string()))
    };
    ask(&mut worker, &load.limits, request, &mut say)
}

/// Runs one request and passes its parts to `say` as they are generated; returns its last
/// event.
pub(super) fn ask<B: Backend>(
    worker: &mut Worker<B>,
    limits: &Limits,
    request: &GenerateRequest,
    say: &mut dyn FnMut(AnswerPart) -> Result<(), Failure>,
) -> Result<Event, Failure> {
    worker.submit(request.clone());
    let began = clock::now();
    loop {
        let now = clock::now().duration_since(began);
        _ = worker.plan(now, limits);
        worker.tick(now);
        for event in worker.events() {
            match event {
                Event::Token { parts, .. } => parts.into_iter().try_for_each(&mut *say)?,
                Event::Failed { failure, .. } => return Err(failure),
                Event::Finished { .. } => return Ok(event),
                _ => {}
            }
        }
        if worker.is_idle() {
            return Err(Failure::new(FailureKind::Internal, "nothing left to do"));
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
