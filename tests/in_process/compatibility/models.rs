//! Endpoints about models.

use hearth_proto::GenerateRequest;
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{forget, set};
use crate::field_cases::{Effect, case};
use crate::harness::{MODEL, World};
use crate::http::Reply;
use crate::{lora, ollama_create};

const CREATE: &str = "POST /api/create";
const PARAMETERS: &str = "parameters.temperature parameters.dynatemp_range \
    parameters.dynatemp_exponent parameters.top_k parameters.top_p parameters.min_p \
    parameters.typical_p parameters.top_n_sigma parameters.xtc_probability \
    parameters.xtc_threshold parameters.min_keep parameters.repeat_penalty \
    parameters.repeat_last_n parameters.presence_penalty parameters.frequency_penalty \
    parameters.dry_multiplier parameters.dry_base parameters.dry_allowed_length \
    parameters.dry_penalty_last_n parameters.dry_sequence_breakers parameters.mirostat \
    parameters.mirostat_tau parameters.mirostat_eta parameters.adaptive_target \
    parameters.adaptive_decay parameters.samplers parameters.seed \
    parameters.num_predict parameters.stop parameters.num_ctx parameters.lora lora";
const UNUSED: &str = "parameters.num_keep parameters.num_batch parameters.num_gpu \
    parameters.main_gpu parameters.num_thread parameters.use_mmap parameters.ignore_eos";

/// A daemon in which every caller may change models, and whose `small` has adapters.
async fn world() -> World {
    ollama_create::over(lora::folder()).await
}

/// What the engine is asked in a chat with a model.
async fn asked(world: &World, model: &str) -> Value {
    let chat = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(world.post("/api/chat", &chat).await.status, 200, "{model}");
    let last: GenerateRequest = world.requests().pop().unwrap();
    let mut asked = serde_json::to_value(last).unwrap();
    forget(&mut asked);
    asked
}

async fn create(world: &World, request: &Value) -> Reply {
    let reply = world.post("/api/create", request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

#[tokio::test]
async fn parameters_of_a_derived_model_reach_the_engine() {
    let world = world().await;
    for (path, name) in proves!(CREATE, PARAMETERS).each() {
        let mut request = json!({"model": "new", "from": "small", "stream": false});
        set(&mut request, name, case(path, name).value);
        create(&world, &request).await;
        let (new, small) = (asked(&world, "new").await, asked(&world, "small").await);
        let Effect::Asks(at, expected) = case(path, name).effect else {
            panic!("{name}")
        };
        assert_eq!(new.pointer(&at), Some(&expected), "{name}");
        assert_ne!(small.pointer(&at), Some(&expected), "{name}");
    }
}

#[tokio::test]
async fn other_parameters_do_not_change_what_the_engine_is_asked() {
    let world = world().await;
    for (path, name) in proves!(CREATE, UNUSED, "no effect").each() {
        let mut request = json!({"model": "new", "from": "small", "stream": false,
            "parameters": {"seed": 7}});
        create(&world, &request).await;
        let before = asked(&world, "new").await;
        set(&mut request, name, case(path, name).value);
        create(&world, &request).await;
        assert_eq!(before, asked(&world, "new").await, "{name}");
    }
}

#[tokio::test]
async fn adapters_are_files_that_were_uploaded() {
    proves!("POST /api/create", "adapters");
    let world = world().await;
    let bytes = std::fs::read(world.folder.models().join("tone.gguf")).unwrap();
    let digest = format!("sha256:{}", crate::ollama_models::sha256(&bytes));
    let mut socket = UnixStream::connect(world.folder.socket()).await.unwrap();
    let head = format!(
        "POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        bytes.len()
    );
    socket
        .write_all(&[head.as_bytes(), &bytes].concat())
        .await
        .unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 201"), "{reply}");
    let mut request = json!({"model": "new", "from": "small", "stream": false});
    create(&world, &request).await;
    assert_eq!(asked(&world, "new").await["lora"], json!(null));
    request["adapters"] = json!({"other.gguf": digest});
    create(&world, &request).await;
    let lora = asked(&world, "new").await["lora"].take();
    assert_eq!(lora[0]["adapter"], json!({"name": "other"}), "{lora}");
}

#[tokio::test]
async fn fields_about_a_new_model_are_shown() {
    let world = world().await;
    proves!(CREATE, "model from license stream");
    let mut request = json!({"model": "new", "from": "small", "license": "For tests."});
    let streamed = create(&world, &request).await;
    assert_eq!(streamed.header("content-type"), "application/x-ndjson");
    request["stream"] = false.into();
    let whole = create(&world, &request).await;
    assert_eq!(whole.header("content-type"), "application/json");
    let shown = world
        .post("/api/show", &json!({"model": "new"}))
        .await
        .json();
    assert_eq!(shown["license"], "For tests.");
    assert_eq!(shown["details"]["parent_model"], "small");
}

#[tokio::test]
async fn a_model_has_both_names_in_requests_about_it() {
    let world = world().await;
    for (path, name) in proves!("POST /api/show, POST /api/pull", "model name").each() {
        for (model, status) in [("small", 200), ("nope", 404)] {
            let reply = world.post(path, &json!({name: model})).await;
            assert_eq!(reply.status, status, "{path}: {name}: {reply:?}");
        }
    }
    for (path, name) in proves!("DELETE /api/delete", "model name").each() {
        create(&world, &json!({"model": "new", "from": "small"})).await;
        let body = json!({name: "new"}).to_string();
        for status in [200, 404] {
            let reply = world.http(Method::DELETE, path, &[], body.clone()).await;
            assert_eq!(reply.status, status, "{name}: {reply:?}");
        }
    }
    proves!("POST /api/pull", "stream");
    for (stream, kind) in [(true, "application/x-ndjson"), (false, "application/json")] {
        let body = json!({"model": "small", "stream": stream});
        let reply = world.post("/api/pull", &body).await;
        assert_eq!(reply.header("content-type"), kind);
    }
}

#[tokio::test]
async fn stream_does_not_change_answers_of_one_object() {
    let world = world().await;
    proves!("POST /api/show", "stream", "no effect");
    let show = json!({"model": "small", "stream": true});
    let streamed = world.post("/api/show", &show).await.json();
    let whole = world
        .post("/api/show", &json!({"model": "small"}))
        .await
        .json();
    assert_eq!(whole, streamed);
    proves!("DELETE /api/delete", "stream", "no effect");
    for stream in [true, false] {
        create(&world, &json!({"model": "new", "from": "small"})).await;
        let body = json!({"model": "new", "stream": stream}).to_string();
        let reply = world.http(Method::DELETE, "/api/delete", &[], body).await;
        assert_eq!((reply.status, &*reply.body), (200, ""), "{reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_take_the_form_of_anthropics_api() {
    let world = World::new(hearth_testing::Script::default()).await;
    let proof = proves!("GET /v1/models, GET /models", "anthropic-version");
    for (path, name) in proof.each() {
        let headers = [(name, "2023-06-01")];
        let theirs = world.http(Method::GET, path, &headers, String::new()).await;
        assert_eq!(theirs.json()["first_id"], MODEL, "{path}");
        assert_eq!(world.get(path).await.json()["object"], "list", "{path}");
    }
    proves!("GET /v1/models/{id}", "anthropic-version id");
    let path = format!("/v1/models/{MODEL}");
    let headers = [("anthropic-version", "2023-06-01")];
    let theirs = world
        .http(Method::GET, &path, &headers, String::new())
        .await;
    assert_eq!(theirs.json()["type"], "model");
    let ours = world.get(&path).await.json();
    assert_eq!(
        (&ours["object"], &ours["id"]),
        (&json!("model"), &json!(MODEL))
    );
    assert_eq!(world.get("/v1/models/nope").await.status, 404);
}
