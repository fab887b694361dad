//! Request bodies, as each transport decodes them. A refusal is short, whatever was sent.

#![no_main]

use hearth_api::{anthropic, llama_server, ollama, openai};
use hearth_constraint as constraint;
use hearth_proto::Failure;
use hearth_proto::Submission;
use libfuzzer_sys::fuzz_target;

/// Longest message of a refusal, in bytes: it names a field and quotes little of the
/// request.
const MESSAGE_MAX: usize = 1000;

fn fine<T>(decoded: Result<T, Failure>) -> Option<T> {
    if let Err(failure) = &decoded {
        assert!(
            !failure.message.is_empty() && failure.message.len() <= MESSAGE_MAX,
            "{failure}"
        );
    }
    decoded.ok()
}

/// The checks when a request is accepted.
fn admit(submission: &Submission) {
    if fine(constraint::check(&submission.request)).is_some() {
        drop(constraint::not_enforced(&submission.request));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((door, body)) = data.split_first() else {
        return;
    };
    match door % 16 {
        0 => {
            if let Some(request) = fine(openai::decode_chat(body)) {
                admit(&request.submission);
            }
        }
        1 => {
            if let Some(request) = fine(openai::decode_completion(body)) {
                request.submissions.iter().for_each(admit);
            }
        }
        2 => {
            if let Some(request) = fine(ollama::decode_chat(body)) {
                admit(&request.submission);
            }
        }
        3 => {
            if let Some(request) = fine(ollama::decode_generate(body)) {
                admit(&request.submission);
            }
        }
        4 => drop(fine(ollama::decode_embed(body))),
        5 => drop(fine(ollama::decode_model(body))),
        // Options of a session on the bus.
        6 => {
            if let Ok(fields) = serde_json::from_slice(body) {
                fine(openai::decode_options(&fields));
            }
        }
        7 => {
            if let Some(request) = fine(openai::decode_responses(body)) {
                admit(&request.chat.submission);
            }
        }
        8 => drop(fine(openai::decode_embeddings(body))),
        9 => drop(fine(ollama::decode_copy(body))),
        10 => drop(fine(llama_server::decode_rerank(body))),
        11 => {
            for decode in [llama_server::decode_infill, llama_server::decode_completion] {
                let request = fine(decode(body));
                for submission in request.iter().flat_map(|request| &request.submissions) {
                    admit(submission);
                }
            }
            fine(llama_server::decode_tokenize(body));
            fine(llama_server::decode_detokenize(body));
            fine(llama_server::decode_embedding(body));
        }
        12 => {
            if let Some(request) = fine(anthropic::decode_messages(body)) {
                admit(&request.submission);
            }
        }
        13 => drop(fine(ollama::decode_create(body))),
        14 => drop(fine(ollama::decode_show(body))),
        // Messages and tools of a prewarmed prompt.
        _ => {
            if let Ok(text) = std::str::from_utf8(body) {
                fine(openai::decode_messages(text));
                fine(openai::decode_tools(text));
            }
        }
    }
});
