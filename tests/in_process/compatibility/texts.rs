//! Endpoints that compute tokens, vectors and scores.

use hearth_proto::ModelKind;
use hearth_testing::Script;
use hyper::Method;
use serde_json::json;

use super::world;
use crate::field_cases::base;
use crate::harness::World;

const EMBEDDINGS: &str = "POST /v1/embeddings, POST /embeddings";
const OLLAMA: &str = "POST /api/embed, POST /api/embeddings";
/// With options, as chats have them.
const OPTIONS: &str = "options.temperature options.dynatemp_range options.dynatemp_exponent \
    options.top_k options.top_p options.min_p options.typical_p options.top_n_sigma \
    options.xtc_probability options.xtc_threshold options.min_keep options.repeat_penalty \
    options.repeat_last_n options.presence_penalty options.frequency_penalty \
    options.dry_multiplier options.dry_base options.dry_allowed_length \
    options.dry_penalty_last_n options.dry_sequence_breakers options.mirostat \
    options.mirostat_tau options.mirostat_eta options.adaptive_target options.adaptive_decay \
    options.samplers options.ignore_eos options.seed options.num_predict options.stop \
    options.lora options.num_ctx options.num_keep options.num_batch options.num_gpu \
    options.main_gpu options.num_thread options.use_mmap";

#[tokio::test(start_paused = true)]
async fn fields_of_embeddings_have_their_effect() {
    let world = world().await;
    proves!(EMBEDDINGS, "input model encoding_format dimensions")
        .holds(&world)
        .await;
    proves!("POST /embedding", "content model")
        .holds(&world)
        .await;
    proves!(
        "POST /embedding",
        "embd_normalize",
        "refused: unless it is 2, for length one"
    )
    .is_refused(&world)
    .await;
    proves!(OLLAMA, "input prompt truncate model dimensions")
        .holds(&world)
        .await;
    proves!(OLLAMA, OPTIONS, "no effect")
        .changes_nothing(&world)
        .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_tokens_have_their_effect() {
    let world = world().await;
    proves!(
        "POST /tokenize",
        "content model add_special parse_special with_pieces"
    )
    .holds(&world)
    .await;
    proves!("POST /detokenize", "tokens model")
        .holds(&world)
        .await;
}

#[tokio::test(start_paused = true)]
async fn variables_of_templates_reach_the_engine() {
    let world = world().await;
    proves!(
        "POST /apply-template, POST /chat/completions/input_tokens, \
         POST /v1/chat/completions/input_tokens",
        "chat_template_kwargs reasoning_effort"
    )
    .holds(&world)
    .await;
    proves!("POST /v1/messages/count_tokens", "thinking output_config")
        .holds(&world)
        .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_scores_have_their_effect() {
    let world = World::new(Script {
        kind: ModelKind::Reranker,
        ..Script::default()
    })
    .await;
    proves!(
        "POST /v1/rerank, POST /v1/reranking, POST /rerank, POST /reranking",
        "query documents top_n return_documents model"
    )
    .holds(&world)
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_keep_alive_of_a_request_is_that_of_the_model() {
    let world = world().await;
    let proof = proves!(
        "POST /api/chat, POST /api/generate, POST /api/embed, POST /api/embeddings",
        "keep_alive"
    );
    for (path, name) in proof.each() {
        let mut ends = Vec::new();
        for time in [json!("10m"), json!(7200)] {
            let mut request = base(path);
            request[name] = time;
            assert_eq!(world.post(path, &request).await.status, 200, "{path}");
            ends.push(world.get("/api/ps").await.json()["models"][0]["expires_at"].take());
        }
        assert!(
            ends[0].is_string() && ends[0] != ends[1],
            "{path}: {ends:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_header_of_the_priority_is_that_of_the_request() {
    let world = world().await;
    let proof = proves!(
        "POST /v1/chat/completions, POST /chat/completions, POST /v1/completions, \
         POST /v1/responses, POST /responses, POST /v1/messages, POST /completion, POST /completions, \
         POST /infill, POST /api/chat, POST /api/generate",
        "X-Hearthd-Priority"
    );
    for (path, name) in proof.each() {
        for class in ["background", "interactive"] {
            let headers = [(name, class)];
            let body = base(path).to_string();
            let reply = world.http(Method::POST, path, &headers, body).await;
            assert_eq!(reply.status, 200, "{path}: {reply:?}");
            let last = world.requests().pop().unwrap();
            assert_eq!(json!(last.priority), class, "{path}");
        }
    }
}
