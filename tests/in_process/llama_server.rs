//! llama-server's own endpoints.

use hearth_proto::{Command, Prompt, PromptPart};
use hearth_testing::{Answers, Script, Step};
use serde_json::{Value, json};

use crate::harness::World;

#[tokio::test(start_paused = true)]
async fn apply_template_shows_the_prompt_of_a_chat() {
    let world = World::new(Script::default()).await;
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    let body = json!({"messages": [{"role": "user", "content": "abc"}], "tools": [tool],
        "chat_template_kwargs": {"enable_thinking": false}});
    let reply = world.post("/apply-template", &body).await;
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!({"prompt": "abc"}))
    );
    let asked = world.engine.picked(|command| match command {
        Command::Render(request) => Some(request.clone()),
        _ => None,
    });
    let Prompt::Chat { messages, tools } = &asked[0].prompt else {
        panic!("{asked:?}")
    };
    assert_eq!((messages.len(), tools.len()), (1, 1));
    assert_eq!(asked[0].chat_template_kwargs["enable_thinking"], false);
    assert!(asked[0].accepted_unix_s > 0);
    // Nothing was generated.
    assert!(world.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn apply_template_refuses_what_a_chat_refuses() {
    let world = World::with("[queue]\nprompt_max_bytes = 3000\n", Script::default()).await;
    for (body, param) in [
        (json!({"messages": []}), json!("messages")),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "tools": 1}),
            json!("tools"),
        ),
        (
            json!({"messages": [{"role": "user", "content": "x".repeat(4000)}]}),
            json!(null),
        ),
    ] {
        let reply = world.post("/apply-template", &body).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &param),
            "{reply:?}"
        );
    }
    let other = json!({"model": "other", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(world.post("/apply-template", &other).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn input_tokens_are_counted() {
    let world = World::new(Script::default()).await;
    let body = json!({"messages": [{"role": "user", "content": "abcd"}]});
    for path in [
        "/chat/completions/input_tokens",
        "/v1/chat/completions/input_tokens",
    ] {
        let reply = world.post(path, &body).await;
        assert_eq!(
            (reply.status, &reply.json()["input_tokens"]),
            (200, &json!(4))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn tokenize_names_pieces() {
    let world = World::new(Script::default()).await;
    let reply = world
        .post("/tokenize", &json!({"content": "aé", "with_pieces": true}))
        .await;
    let expected = json!({"tokens": [{"id": 97, "piece": "a"}, {"id": 233, "piece": "é"}]});
    assert_eq!(reply.json(), expected);
    let reply = world
        .post("/tokenize", &json!({"content": "a", "model": "fake"}))
        .await;
    assert_eq!(reply.json(), json!({"tokens": [97]}));
    let asked = world.engine.picked(|command| match command {
        Command::Tokenize {
            bos, plain, pieces, ..
        } => Some((*bos, *plain, *pieces)),
        _ => None,
    });
    assert_eq!(asked, [(false, false, true), (false, false, false)]);
    let special = json!({"content": "a", "add_special": true, "parse_special": false});
    world.post("/tokenize", &special).await;
    let asked = world.engine.picked(|command| match command {
        Command::Tokenize {
            bos, plain, pieces, ..
        } => Some((*bos, *plain, *pieces)),
        _ => None,
    });
    assert_eq!(asked.last(), Some(&(true, true, false)));
    let reply = world
        .post("/detokenize", &json!({"tokens": [97, 233]}))
        .await;
    assert_eq!(reply.json(), json!({"content": "aé"}));
    for (path, body, field) in [
        ("/tokenize", json!({"content": 1}), "content"),
        (
            "/tokenize",
            json!({"content": "a", "with_pieces": 1}),
            "with_pieces",
        ),
        ("/detokenize", json!({"tokens": ["a"]}), "tokens[0]"),
    ] {
        let reply = world.post(path, &body).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!(field))
        );
    }
    let unknown = world
        .post("/tokenize", &json!({"content": "a", "model": "other"}))
        .await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_completion_has_llama_servers_fields() {
    let world = World::new(Script::default()).await;
    for path in ["/completion", "/completions"] {
        let body = json!({"prompt": "abc", "n_predict": 2, "return_tokens": true, "seed": 7,
            "id_slot": 0, "cache_prompt": true, "temperature": 0.5});
        let answer = world.post(path, &body).await.json();
        for (name, value) in json!({"content": "ab", "stop": true, "stop_type": "limit",
            "model": "fake", "prompt": "abc", "tokens_predicted": 2, "tokens_evaluated": 3,
            "truncated": false, "has_new_line": false, "stopping_word": "", "tokens": [1, 2]})
        .as_object()
        .unwrap()
        {
            assert_eq!(&answer[name], value, "{name}");
        }
        let settings = &answer["generation_settings"];
        let shown = ["n_predict", "seed", "temperature"].map(|name| settings[name].clone());
        assert_eq!(shown, [json!(2), json!(7), json!(0.5)]);
        assert_eq!(answer["timings"]["predicted_n"], 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_completion_streams_parts_and_an_end() {
    let world = World::new(Script::default()).await;
    let body = json!({"prompt": "abc", "n_predict": 2, "stream": true,
        "timings_per_token": true, "return_progress": true});
    let reply = world.post("/completion", &body).await;
    assert!(!reply.body.contains("[DONE]"), "{reply:?}");
    let events = reply.events();
    let (end, parts) = events.split_last().unwrap();
    let progress: Vec<&Value> = parts
        .iter()
        .filter_map(|e| e.get("prompt_progress"))
        .collect();
    assert_eq!(
        (&progress[0]["processed"], &progress[0]["total"]),
        (&json!(0), &json!(3))
    );
    assert_eq!(progress.last().unwrap()["processed"], 3);
    let texts = parts.iter().filter(|e| e.get("prompt_progress").is_none());
    let texts: Vec<(&Value, &Value)> = texts.map(|e| (&e["content"], &e["tokens"])).collect();
    assert_eq!(
        texts,
        [(&json!("a"), &json!([1])), (&json!("b"), &json!([2]))]
    );
    assert!(
        parts
            .iter()
            .all(|e| e["stop"] == false && e["timings"].is_object()),
        "{parts:?}"
    );
    assert_eq!(
        (&end["stop"], &end["stop_type"]),
        (&json!(true), &json!("limit"))
    );
    assert_eq!(end["generation_settings"]["n_predict"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_completion_takes_tokens_and_several_prompts() {
    let world = World::new(Script::default()).await;
    let body = json!({"prompt": [97, 98], "response_fields": ["content", "prompt"]});
    let answer = world.post("/completion", &body).await.json();
    assert_eq!(answer, json!({"content": "ab", "prompt": "ab"}));
    let body = json!({"prompt": ["x", [121, "z"]], "response_fields": ["content", "index"]});
    let answers = world.post("/completion", &body).await.json();
    assert_eq!(
        answers,
        json!([{"content": "x", "index": 0}, {"content": "yz", "index": 1}])
    );
    let asked = world.requests().pop().unwrap().prompt;
    let parts = vec![PromptPart::Tokens(vec![121]), PromptPart::Text("z".into())];
    assert_eq!(asked, Prompt::Mixed(parts));
    let bounds = world.requests();
    assert!(bounds.iter().all(|request| request.sampling.seed.is_some()));
}

#[tokio::test(start_paused = true)]
async fn n_predict_zero_computes_the_prompt() {
    let world = World::new(Script::default()).await;
    let body = json!({"prompt": "abc", "n_predict": 0});
    let answer = world.post("/completion", &body).await.json();
    let shown = ["content", "tokens_predicted", "tokens_evaluated"].map(|n| answer[n].clone());
    assert_eq!(shown, [json!(""), json!(0), json!(3)]);
    let warm = json!({"prompt": "abcd", "n_predict": 1});
    let answer = world.post("/completion", &warm).await.json();
    assert_eq!(answer["timings"]["cache_n"], 3, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_completion_names_the_mistake() {
    let world = World::new(Script::default()).await;
    for (body, field) in [
        (json!({}), "prompt"),
        (json!({"prompt": [1, "a", null]}), "prompt[2]"),
        (json!({"prompt": "a", "n_probs": 99}), "n_probs"),
        (json!({"prompt": "a", "top_p": 3}), "top_p"),
    ] {
        let reply = world.post("/completion", &body).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!(field))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn chats_report_times_and_progress() {
    let world = World::new(Script::default()).await;
    let mut body = json!({"messages": [{"role": "user", "content": "abc"}], "n_predict": 2});
    let answer = world.chat(&body).await;
    assert_eq!(answer["timings"]["predicted_n"], 2, "{answer}");
    body["stream"] = json!(true);
    let events = world.post("/v1/chat/completions", &body).await.events();
    let with =
        |name: &str, events: &[Value]| events.iter().filter(|e| e.get(name).is_some()).count();
    // At the end alone, and never unasked.
    assert_eq!(
        (with("timings", &events), with("prompt_progress", &events)),
        (1, 0)
    );
    assert_eq!(events.last().unwrap()["timings"]["predicted_n"], 2);
    body["timings_per_token"] = json!(true);
    body["return_progress"] = json!(true);
    let events = world.post("/v1/chat/completions", &body).await.events();
    assert!(with("prompt_progress", &events) >= 2, "{events:?}");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[0]["prompt_progress"]["total"], 3);
    assert!(with("timings", &events) >= 5, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn slots_show_what_runs() {
    proves!("GET /slots", "model");
    let hanging = Answers::new(|_| vec![Step::text("a"), Step::Hang]);
    let script = Script {
        slots: Some(2),
        ..Script::answering(hanging)
    };
    let world = World::new(script).await;
    assert_eq!(world.get("/slots").await.json(), json!([]));
    let _streamed = world
        .open(
            "/completion",
            &json!({"prompt": "x", "n_predict": 5, "stream": true}),
        )
        .await;
    let slots = world.get("/slots").await.json();
    let processing: Vec<&Value> = slots
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["is_processing"])
        .collect();
    assert_eq!(processing, [&json!(true), &json!(false)], "{slots}");
    assert_eq!(slots[0]["next_token"][0]["n_decoded"], 1);
    assert_eq!(slots[0]["next_token"][0]["n_remain"], 4);
    assert_eq!(world.get("/slots?fail_on_no_slot=1").await.status, 200);
    assert_eq!(world.get("/slots?model=other").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn fail_on_no_slot_is_a_status() {
    proves!("GET /slots", "fail_on_no_slot");
    let world = World::new(Script::default()).await;
    assert_eq!(world.get("/slots?fail_on_no_slot=0").await.status, 200);
    let reply = world.get("/slots?fail_on_no_slot=1").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["error"]["param"], "fail_on_no_slot");
}

#[tokio::test(start_paused = true)]
async fn props_have_the_settings_of_the_loaded_model() {
    let world = World::with("[sampling]\ntemperature = 0.25\n", Script::default()).await;
    world.say("x").await.unwrap();
    let props = world.get("/props").await.json();
    let params = &props["default_generation_settings"]["params"];
    assert_eq!(params["temperature"], 0.25, "{props}");
    assert_eq!(props["endpoint_slots"], true);
    assert!(
        props["chat_template_caps"]["supports_tools"].is_boolean(),
        "{props}"
    );
}

#[tokio::test(start_paused = true)]
async fn metrics_have_llama_servers_names() {
    let world = World::new(Script::default()).await;
    world
        .post("/completion", &json!({"prompt": "abc", "n_predict": 2}))
        .await;
    let reply = world.get("/metrics").await;
    assert!(
        reply
            .header("process-start-time-unix")
            .parse::<u64>()
            .is_ok()
    );
    assert!(
        reply.body.contains("\nllamacpp:prompt_tokens_total 3\n"),
        "{reply:?}"
    );
    assert!(
        reply.body.contains("\nllamacpp:tokens_predicted_total 2\n"),
        "{reply:?}"
    );
}
