//! Scores of documents, over HTTP and on the bus.

use std::time::Duration;

use hearth_proto::{Command, FailureKind, ModelKind};
use hearth_testing::Script;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::bus::Options;
use crate::harness::{World, until};

const PATH: &str = "/v1/rerank";

/// An engine that scores by the letters that query and document have in common.
fn reranker() -> Script {
    Script {
        kind: ModelKind::Reranker,
        ..Script::default()
    }
}

fn indexes(answer: &Value) -> Vec<u64> {
    let results = answer["results"].as_array().unwrap();
    results
        .iter()
        .map(|r| r["index"].as_u64().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn documents_are_sorted_by_their_scores() {
    let world = World::new(reranker()).await;
    let documents = json!(["xyz", {"text": "lamp"}, "lamb", "map"]);
    let request = json!({"query": "lamp", "documents": documents, "model": "default"});
    for path in [PATH, "/v1/reranking", "/rerank", "/reranking"] {
        let answer = world.post(path, &request).await.json();
        assert_eq!(indexes(&answer), [1, 3, 2, 0], "{path}: {answer}");
        assert_eq!(
            (&answer["model"], &answer["object"]),
            (&json!("fake"), &json!("list"))
        );
        let usage = json!({"prompt_tokens": 14, "total_tokens": 14});
        assert_eq!(answer["usage"], usage, "{path}");
        let scores: Vec<f64> = answer["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["relevance_score"].as_f64().unwrap())
            .collect();
        assert!(
            scores.is_sorted_by(|a, b| a >= b) && scores[0] > 0.99,
            "{scores:?}"
        );
        assert!(answer["results"][0].get("document").is_none());
    }
    let mut few = request.clone();
    few["top_n"] = json!(2);
    few["return_documents"] = json!(true);
    let answer = world.post(PATH, &few).await.json();
    assert_eq!(indexes(&answer), [1, 3]);
    assert_eq!(answer["results"][0]["document"], json!({"text": "lamp"}));

    let bus = world.bus().await;
    let documents = vec!["xyz", "lamp", "lamb", "map"];
    let options = Options::from([("top_n", 3_u32.into()), ("model", "fake".into())]);
    let ranks: Vec<(u32, f64)> = bus
        .manager("Rerank", &("lamp", &documents, options))
        .await
        .unwrap();
    assert_eq!(
        ranks.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [1, 3, 2]
    );
    assert_eq!(world.engine.started(), 1);
}

// A table: a row for each mistake.
#[tokio::test(start_paused = true)]
async fn mistakes_are_named() {
    let world = World::new(reranker()).await;
    for (request, status, code, field) in [
        (json!({"documents": ["a"]}), 400, "invalid_request", "query"),
        (
            json!({"query": "", "documents": ["a"]}),
            400,
            "invalid_request",
            "query",
        ),
        (json!({"query": "q"}), 400, "invalid_request", "documents"),
        (
            json!({"query": "q", "documents": []}),
            400,
            "invalid_request",
            "documents",
        ),
        (
            json!({"query": "q", "documents": vec!["a"; 2049]}),
            400,
            "invalid_request",
            "documents",
        ),
        (
            json!({"query": "q", "documents": ["a", ""]}),
            400,
            "invalid_request",
            "documents[1]",
        ),
        (
            json!({"query": "q", "documents": ["a", {"txt": "b"}]}),
            400,
            "invalid_request",
            "documents[1]",
        ),
        (
            json!({"query": "q", "documents": ["a"], "top_n": 0}),
            400,
            "invalid_request",
            "top_n",
        ),
        (
            json!({"query": "q", "documents": ["a", "b".repeat(5000)]}),
            400,
            "context_length_exceeded",
            "documents[1]",
        ),
        (
            json!({"query": "q", "documents": ["!crash"]}),
            500,
            "engine_crashed",
            "",
        ),
        (
            json!({"query": "q", "documents": ["a"], "model": "nobody"}),
            404,
            "model_not_found",
            "",
        ),
    ] {
        let refused = world.post(PATH, &request).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{refused:?}"
        );
        let named = refused.json()["error"]["param"].take();
        assert_eq!(named.as_str().unwrap_or_default(), field, "{refused:?}");
    }
    let long = json!({"query": "q", "documents": ["a", "b".repeat(5000)]});
    let refused = world.post(PATH, &long).await.json();
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("document 1: "), "{message}");

    let bus = world.bus().await;
    let none: Vec<&str> = Vec::new();
    for options in [
        Options::from([("top_m", 1_u32.into())]),
        Options::from([("top_n", "1".into())]),
        Options::new(),
    ] {
        let refused = bus.refused("Rerank", &("q", &none, options)).await;
        assert_eq!(refused.kind, Some(FailureKind::InvalidArgs), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_rerankers_score_and_they_do_nothing_else() {
    let world = World::new(Script::default()).await;
    world.say("x").await.unwrap();
    let request = json!({"query": "q", "documents": ["a"]});
    let refused = world.post(PATH, &request).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "not_supported")
    );
    assert!(refused.body.contains("name a reranker"), "{refused:?}");

    let world = World::new(reranker()).await;
    assert_eq!(world.post(PATH, &request).await.status, 200);
    let refused = world.post("/v1/embeddings", &json!({"input": "a"})).await;
    assert_eq!(refused.code(), "not_supported");
    assert!(refused.body.contains("/v1/rerank"), "{refused:?}");
    let refused = world.say("x").await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::NotSupported);
}

#[tokio::test(start_paused = true)]
async fn tokens_count_for_the_quota_and_the_rest_ends_with_the_caller() {
    let script = Script {
        prefill_time: Duration::from_secs(1),
        ..reranker()
    };
    let world = World::with("[limits]\ntokens_per_hour = 10\n", script).await;
    let request = json!({"query": "q", "documents": vec!["abcdef"; 100]});
    let mut socket = UnixStream::connect(world.folder.socket()).await.unwrap();
    let body = request.to_string();
    let length = body.len();
    let head =
        format!("POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    let sent = || {
        let sent = world.engine.picked(|command| match command {
            Command::Rerank { id, .. } => Some(*id),
            _ => None,
        });
        sent.len()
    };
    until("two are scored", || sent() == 3).await;
    drop(socket);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(sent() <= 4, "{}", sent());
    let refused = world.post(PATH, &request).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "quota_exceeded")
    );
}
