//! Embeddings over HTTP, the bus and hearthctl.

use hearth_gguf::synthetic::{Encoder, make_encoder};
use serde_json::{Value, json};

use crate::harness::{Daemon, error, ok};

fn embeddings(daemon: &Daemon, body: &Value) -> Value {
    let output = daemon.curl("/v1/embeddings", &["-d", &body.to_string()]);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn vector(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap_or_else(|| panic!("{value}"));
    list.iter().map(|v| v.as_f64().unwrap()).collect()
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits = text
        .trim_end_matches('=')
        .bytes()
        .map(|c| u32::from(value(c)));
    let mut bytes = Vec::new();
    let (mut held, mut count) = (0u32, 0);
    for bit in bits {
        held = held << 6 | bit;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(held >> count & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn embeddings_are_equal_over_every_interface() {
    let daemon = Daemon::real();
    let texts = [
        "Turn on the kitchen light.",
        "What is the capital of Italy?",
    ];
    let answer = embeddings(&daemon, &json!({"input": texts, "model": "default"}));
    assert_eq!(answer["data"][1]["index"], 1, "{answer}");
    assert_eq!(answer["model"], "hearth-demo-q8_0");
    let first = vector(&answer["data"][0]["embedding"]);
    let length: f64 = first.iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-3);
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 8);

    let one = json!({"input": texts[0], "encoding_format": "base64", "dimensions": first.len()});
    let encoded = embeddings(&daemon, &one);
    let bytes = base64(encoded["data"][0]["embedding"].as_str().unwrap());
    let floats: Vec<f64> = bytes
        .chunks_exact(4)
        .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
        .collect();
    assert_eq!(floats.len(), first.len());
    assert!(floats.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-4));

    let shown = ok(&daemon.ctl(&["--json", "embed", texts[0], texts[1]]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let bus = vector(&shown["embeddings"][0]);
    assert!(bus.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-4));
    let busctl = ok(&daemon.call("Embed", &["asa{sv}", "1", texts[0], "0"]));
    assert!(busctl.starts_with("aad 1 "), "{busctl}");
}

#[test]
fn tokens_are_embedded_and_vectors_shortened() {
    let daemon = Daemon::real();
    let text = "Turn on the kitchen light.";
    let tokens = daemon.curl(
        "/tokenize",
        &[
            "-d",
            &json!({"content": text, "add_special": true}).to_string(),
        ],
    );
    let tokens: Value = serde_json::from_slice(&tokens.stdout).unwrap();
    let tokens = &tokens["tokens"];
    let of_text = vector(&embeddings(&daemon, &json!({"input": text}))["data"][0]["embedding"]);
    for input in [tokens.clone(), json!([tokens])] {
        let made = embeddings(&daemon, &json!({"input": input}));
        let made = vector(&made["data"][0]["embedding"]);
        assert!(made.iter().zip(&of_text).all(|(a, b)| (a - b).abs() < 1e-4));
    }
    for unknown in [-1, 10_000_000] {
        let refused = embeddings(&daemon, &json!({"input": [tokens, [unknown]]}));
        assert_eq!(refused["error"]["param"], "input[1]", "{refused}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(&unknown.to_string()), "{message}");
    }
    let short = embeddings(&daemon, &json!({"input": text, "dimensions": 16}));
    let short = vector(&short["data"][0]["embedding"]);
    let length = of_text[..16].iter().map(|v| v * v).sum::<f64>().sqrt();
    let expected = of_text[..16].iter().map(|v| v / length);
    assert_eq!(short.len(), 16);
    assert!(
        short
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-4)
    );
}

/// Over each interface: rejected before the model is loaded, and after.
#[test]
fn an_embedding_model_is_recognized_and_only_embeds() {
    let daemon = Daemon::real();
    let model = daemon.models().join("vectors.gguf");
    make_encoder(&model, Encoder::Bert, 5).unwrap();
    let list: Value = serde_json::from_slice(&daemon.curl("/v1/models", &[]).stdout).unwrap();
    let models = list["data"].as_array().unwrap();
    let kind = |name: &str| {
        let entry = models.iter().find(|model| model["id"] == name).unwrap();
        entry["meta"]["kind"].clone()
    };
    assert_eq!(kind("vectors"), "embedding");
    assert_eq!(kind("hearth-demo-q8_0"), "chat");
    let listed = ok(&daemon.ctl(&["models"]));
    assert!(
        listed.contains("KIND") && listed.contains("embedding"),
        "{listed}"
    );
    let shown = daemon.curl("/api/show", &["-d", r#"{"model": "vectors"}"#]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["capabilities"], json!(["embedding"]));

    let body = json!({"model": "vectors", "messages": [{"role": "user", "content": "Hi"}]});
    let chat = || {
        let answer = daemon.curl("/v1/chat/completions", &["-d", &body.to_string()]);
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
        assert_eq!(answer["error"]["code"], "not_supported", "{answer}");
        let message = answer["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("/v1/embeddings"), "{message}");
    };
    chat();
    let answer = embeddings(&daemon, &json!({"input": "Hi", "model": "vectors"}));
    assert_eq!(vector(&answer["data"][0]["embedding"]).len(), 64);
    chat();
    let said = error(&daemon.ctl(&["generate", "--model", "vectors", "Hi"]));
    assert!(said.contains("embedding model"), "{said}");
    let answer = embeddings(
        &daemon,
        &json!({"input": "Hi", "model": "hearth-demo-q8_0"}),
    );
    assert_eq!(answer["model"], "hearth-demo-q8_0");
}
