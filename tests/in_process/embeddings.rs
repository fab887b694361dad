//! Embeddings over HTTP.

use hearth_testing::Script;
use serde_json::{Value, json};

use crate::harness::World;

const PATH: &str = "/v1/embeddings";

#[tokio::test(start_paused = true)]
async fn embeddings_are_computed_and_invalid_requests_refused() {
    let world = World::new(Script::default()).await;
    let texts = json!({"input": ["a cat", "a dog"], "model": "default"});
    let made = world.post(PATH, &texts).await.json();
    assert_eq!(made["data"][1]["index"], 1, "{made}");
    assert_eq!(
        (&made["model"], &made["usage"]["prompt_tokens"]),
        (&json!("fake"), &json!(10))
    );
    let refused = world.post(PATH, &json!({"input": ["a", ""]})).await.json();
    assert_eq!(refused["error"]["param"], "input[1]");
    let long = json!({"input": ["a", "b".repeat(5000)]});
    let refused = world.post(PATH, &long).await.json();
    assert_eq!(refused["error"]["param"], "input[1]");
    for (request, status, code) in [
        (json!({}), 400, "invalid_request"),
        (json!({"input": []}), 400, "invalid_request"),
        (json!({"input": ["a", ""]}), 400, "invalid_request"),
        (json!({"input": [1, "a", null]}), 400, "invalid_request"),
        (json!({"input": [[1], []]}), 400, "invalid_request"),
        (
            json!({"input": "a", "encoding_format": "x"}),
            400,
            "invalid_request",
        ),
        (
            json!({"input": "a", "dimensions": 27}),
            400,
            "invalid_request",
        ),
        (
            json!({"input": "a", "dimensions": 0}),
            400,
            "invalid_request",
        ),
        (json!({"input": vec!["a"; 2049]}), 400, "invalid_request"),
        (
            json!({"input": ["a", "b".repeat(5000)]}),
            400,
            "context_length_exceeded",
        ),
        (json!({"input": "!crash"}), 500, "engine_crashed"),
        (
            json!({"input": "a", "model": "nobody"}),
            404,
            "model_not_found",
        ),
    ] {
        let refused = world.post(PATH, &request).await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code));
    }
    assert_eq!(world.say("after").await.unwrap(), "after");
}

#[tokio::test(start_paused = true)]
async fn vectors_are_shortened_and_tokens_are_those_of_the_model() {
    let world = World::new(Script::default()).await;
    let vector = async |input: Value, dimensions: Value| {
        let request = json!({"input": input, "dimensions": dimensions});
        let made = world.post(PATH, &request).await.json();
        made["data"][0]["embedding"].clone()
    };
    // 26 letters; the first four, at length one again: a twice, d once.
    let short = vector(json!("a data"), json!(4)).await;
    let [a, d] = [3.0 / 10_f64.sqrt(), 1.0 / 10_f64.sqrt()];
    let wanted = [a, 0.0, 0.0, d];
    let short: Vec<f64> = serde_json::from_value(short).unwrap();
    assert!(
        short.len() == 4 && short.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6),
        "{short:?}"
    );
    // Tokens are those of the model, in every form.
    let whole = vector(json!("a cat"), json!(null)).await;
    let tokens = world.post("/tokenize", &json!({"content": "a cat"})).await;
    let tokens = tokens.json()["tokens"].clone();
    let halves = json!([["a ", tokens[2], tokens[3], tokens[4]]]);
    for input in [tokens.clone(), json!([tokens]), halves] {
        assert_eq!(vector(input.clone(), json!(null)).await, whole, "{input}");
    }
    let native = world.post("/embedding", &json!({"content": tokens})).await;
    assert_eq!(native.json()[0]["embedding"][0], whole);
}
