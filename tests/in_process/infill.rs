//! Filling in text, in the forms of llama-server, OpenAI and Ollama.

use hearth_proto::{Failure, FailureKind, Infill, Prompt, Snippet};
use hearth_testing::{Answers, Script, Step};
use serde_json::{Value, json};

use crate::harness::World;

fn infill(prefix: &str, suffix: &str) -> Infill {
    Infill {
        prefix: prefix.into(),
        suffix: suffix.into(),
        ..Infill::default()
    }
}

/// The prompt of the last request that the engine received.
fn asked(world: &World) -> Prompt {
    world.requests().pop().unwrap().prompt
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_the_same_whole_and_streamed() {
    let world = World::new(Script::default()).await;
    let mut request = json!({
        "input_prefix": "abc", "input_suffix": "xyz", "prompt": "p", "n_predict": 2,
        "temperature": 0, "input_extra": [{"filename": "f.py", "text": "other"}],
    });
    let whole = world.post("/infill", &request).await;
    assert_eq!(whole.status, 200, "{whole:?}");
    let whole = whole.json();
    assert_eq!(whole["content"], "ab", "{whole}");
    let expected = json!({"stop": true, "stop_type": "limit", "model": "fake",
        "tokens_predicted": 2, "tokens_evaluated": 3, "truncated": false, "index": 0});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&whole[name], value, "{name}");
    }
    assert_eq!(whole["timings"]["predicted_n"], 2);
    let sent = Infill {
        prompt: "p".into(),
        extra: Some(vec![Snippet {
            filename: "f.py".into(),
            text: "other".into(),
        }]),
        ..infill("abc", "xyz")
    };
    assert_eq!(asked(&world), Prompt::Infill(sent.into()));

    request["stream"] = json!(true);
    let streamed = world.post("/infill", &request).await;
    assert!(!streamed.body.contains("[DONE]"), "{streamed:?}");
    let chunks = streamed.events();
    let text: String = chunks
        .iter()
        .filter_map(|c| c["content"].as_str())
        .collect();
    assert_eq!(text, "ab");
    let (last, others) = chunks.split_last().unwrap();
    assert!(
        others.iter().all(|chunk| chunk["stop"] == false),
        "{others:?}"
    );
    assert_eq!(
        (&last["stop"], &last["tokens_predicted"]),
        (&json!(true), &json!(2))
    );
}

#[tokio::test(start_paused = true)]
async fn a_suffix_asks_for_the_text_between() {
    let world = World::new(Script::default()).await;
    let completion = json!({"prompt": "abc", "suffix": "xyz"});
    let answer = world.post("/v1/completions", &completion).await.json();
    assert_eq!(answer["choices"][0]["text"], "abc", "{answer}");
    assert_eq!(asked(&world), Prompt::Infill(infill("abc", "xyz").into()));
    let generate = json!({"prompt": "abc", "suffix": "xyz", "stream": false, "model": "fake"});
    let answer = world.post("/api/generate", &generate).await.json();
    assert_eq!(answer["response"], "abc", "{answer}");
    assert_eq!(asked(&world), Prompt::Infill(infill("abc", "xyz").into()));
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_named() {
    let failing = Answers::new(|_| {
        let failure = Failure::new(
            FailureKind::NotSupported,
            "the model's vocabulary has no tokens for filling in text",
        );
        vec![Step::Fail(failure)]
    });
    let world = World::new(Script::answering(failing)).await;
    let ask = async |body: Value| {
        let reply = world.post("/infill", &body).await;
        (reply.status, reply.json()["error"].take())
    };
    let (status, error) = ask(json!({"input_prefix": "a"})).await;
    assert_eq!((status, &error["param"]), (400, &json!("input_suffix")));
    let texts = json!({"input_prefix": "a", "input_suffix": "b"});
    let (status, error) = ask(texts.clone()).await;
    assert_eq!((status, &error["code"]), (400, &json!("not_supported")));
    // The scripted engine begins a request before it fails: then the stream has begun.
    let mut streamed = texts;
    streamed["stream"] = json!(true);
    let events = world.post("/infill", &streamed).await.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["error"]["code"], "not_supported");
    let long = json!({"input_prefix": "a", "input_suffix": "b",
        "input_extra": [{"text": "x".repeat(5000)}]});
    world.configure("[queue]\nprompt_max_bytes = 3000\n");
    let (status, error) = ask(long).await;
    assert_eq!(
        (status, &error["code"]),
        (400, &json!("context_length_exceeded"))
    );
}
