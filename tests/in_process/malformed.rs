//! Malformed requests to all endpoints: each is refused in the form of its API, with the field
//! named.

use hearth_testing::Script;
use hyper::Method;
use serde_json::{Value, json};

use crate::harness::World;
use crate::http::{CHAT, Reply};

const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const EMBEDDINGS: &str = "/v1/embeddings";
const RERANK: &str = "/v1/rerank";
const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";
const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";
const NATIVE: &str = "/completion";

/// What is wrong with a refusal, which is to be in the form of the API of its path and to name the
/// field.
fn wrong(path: &str, body: &str, reply: &Reply, status: u16, field: &str) -> Option<String> {
    let error: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let (message, named) = if path.starts_with("/api/") {
        (&error["error"], None)
    } else if path.starts_with(MESSAGES) {
        let has_form = error["type"] == "error" && error["error"]["type"].is_string();
        (&error["error"]["message"], (!has_form).then_some("no form"))
    } else {
        let error = &error["error"];
        let has_form = error["type"].is_string() && error["code"].is_string();
        let named = error["param"].as_str().unwrap_or_default();
        (
            &error["message"],
            Some(if has_form { named } else { "no form" }),
        )
    };
    let message = message.as_str().unwrap_or_default();
    let is_right = reply.status == status
        && reply.header("content-type") == "application/json"
        && (10..600).contains(&message.len())
        && named.map_or_else(|| message.contains(field), |named| named == field);
    let shown: String = body.chars().take(150).collect();
    (!is_right).then(|| {
        format!(
            "{path} {shown}: {field:?} expected, {} {}",
            reply.status, reply.body
        )
    })
}

/// Sends each body and checks the refusal with status 400.
async fn refused(rows: &[(&str, Value, &str)]) {
    let world = World::new(Script::default()).await;
    let mut all = Vec::new();
    for (path, body, field) in rows {
        let reply = world.post(path, body).await;
        all.extend(wrong(path, &body.to_string(), &reply, 400, field));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert_eq!(world.engine.started(), 0);
    assert_eq!(world.say("after").await.unwrap(), "after");
}

/// A chat with this message.
fn said(message: &Value) -> Value {
    json!({"messages": [message]})
}

/// A chat with these fields.
fn with(more: &Value) -> Value {
    let mut body = said(&json!({"role": "user", "content": "x"}));
    let fields = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_no_object_are_refused_by_every_endpoint() {
    let world = World::new(Script::default()).await;
    let deep = "[".repeat(100_000);
    let deep_chat = format!("{{\"messages\": {deep}");
    let bodies: [&[u8]; 10] = [
        b"",
        b"{",
        b"{\"messages\": [{\"role\": \"user\"",
        b"null",
        b"[]",
        b"\"text\"",
        b"{\"model\": NaN}",
        b"{\"model\": \"\xff\xfe\"}",
        b"prompt=hello&model=fake",
        deep_chat.as_bytes(),
    ];
    let paths = [
        CHAT,
        COMPLETIONS,
        RESPONSES,
        EMBEDDINGS,
        RERANK,
        MESSAGES,
        COUNT,
        NATIVE,
        "/infill",
        "/embedding",
        "/tokenize",
        "/detokenize",
        "/apply-template",
        "/v1/chat/completions/input_tokens",
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/api/show",
        "/api/create",
        "/api/copy",
    ];
    let mut all = Vec::new();
    for path in paths {
        for body in bodies {
            let reply = world.http(Method::POST, path, &[], body.to_vec()).await;
            all.extend(wrong(path, &String::from_utf8_lossy(body), &reply, 400, ""));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert_eq!(world.engine.started(), 0);
}

#[tokio::test(start_paused = true)]
async fn chats_name_the_field_that_is_wrong() {
    let user = |content: Value| said(&json!({"role": "user", "content": content}));
    let schema = |schema: Value| {
        with(&json!({"response_format":
            {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}))
    };
    let mut nested = json!({"type": "string"});
    for _ in 0..50 {
        nested = json!({"type": "object", "properties": {"a": nested}});
    }
    let rows = [
        (json!({}), "messages"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": {}}), "messages"),
        (json!({"messages": ["x"]}), "messages[0]"),
        (json!({"messages": [null]}), "messages[0]"),
        (said(&json!({"content": "x"})), "messages[0]"),
        (
            said(&json!({"role": 1, "content": "x"})),
            "messages[0].role",
        ),
        (
            said(&json!({"role": "robot", "content": "x"})),
            "messages[0].role",
        ),
        (user(json!(7)), "messages[0].content"),
        (user(json!({"type": "text"})), "messages[0].content"),
        (user(json!([{"type": "text"}])), "messages[0].content[0]"),
        (user(json!([{"type": "smell"}])), "messages[0].content[0]"),
        (
            user(json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}])),
            "messages[0].content[0].image_url",
        ),
        (with(&json!({"model": 5})), "model"),
        (with(&json!({"stream": "yes"})), "stream"),
        (with(&json!({"n": 0})), "n"),
        (with(&json!({"n": -1})), "n"),
        (with(&json!({"n": 1.5})), "n"),
        (with(&json!({"max_tokens": -5})), "max_tokens"),
        (with(&json!({"max_tokens": 0})), "max_tokens"),
        (with(&json!({"max_tokens": 1e300})), "max_tokens"),
        (with(&json!({"temperature": "hot"})), "temperature"),
        (with(&json!({"temperature": -1})), "temperature"),
        (with(&json!({"temperature": 1e300})), "temperature"),
        (with(&json!({"top_p": 2})), "top_p"),
        (with(&json!({"top_k": -3})), "top_k"),
        (with(&json!({"seed": 0.5})), "seed"),
        (with(&json!({"stop": 3})), "stop"),
        (with(&json!({"stop": ["a", 3]})), "stop[1]"),
        (with(&json!({"logit_bias": [1]})), "logit_bias"),
        (with(&json!({"logit_bias": {"a": "b"}})), "logit_bias"),
        (with(&json!({"logprobs": 3})), "logprobs"),
        (with(&json!({"top_logprobs": 3})), "top_logprobs"),
        (
            with(&json!({"logprobs": true, "top_logprobs": 99})),
            "top_logprobs",
        ),
        (with(&json!({"tools": {}})), "tools"),
        (with(&json!({"tools": [{"type": "function"}]})), "tools[0]"),
        (
            with(&json!({"tools": [], "tool_choice": "required"})),
            "tool_choice",
        ),
        (with(&json!({"response_format": "json"})), "response_format"),
        (
            with(&json!({"response_format": {"type": "xml"}})),
            "response_format",
        ),
        (schema(json!(5)), "response_format"),
        (schema(nested), "response_format"),
        (with(&json!({"grammar": "root ::= ("})), "grammar"),
        (with(&json!({"grammar": 1})), "grammar"),
        (with(&json!({"priority": "now"})), "priority"),
        (with(&json!({"samplers": ["top_z"]})), "samplers"),
        (
            with(&json!({"chat_template_kwargs": []})),
            "chat_template_kwargs",
        ),
        (with(&json!({"lora": "x"})), "lora"),
        (with(&json!({"t_max_predict_ms": "x"})), "t_max_predict_ms"),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(body, field)| (CHAT, body, field))
        .collect();
    refused(&rows).await;
}

#[tokio::test(start_paused = true)]
async fn the_other_endpoints_name_the_field_that_is_wrong() {
    refused(&[
        (COMPLETIONS, json!({}), "prompt"),
        (COMPLETIONS, json!({"prompt": {}}), "prompt"),
        (COMPLETIONS, json!({"prompt": ["a", 1]}), "prompt"),
        (COMPLETIONS, json!({"prompt": "a", "best_of": 0}), "best_of"),
        (COMPLETIONS, json!({"prompt": "a", "echo": 1}), "echo"),
        (RESPONSES, json!({}), "input"),
        (RESPONSES, json!({"input": 3}), "input"),
        (RESPONSES, json!({"input": [{"type": "smell"}]}), "input[0]"),
        (RESPONSES, json!({"input": "a", "max_output_tokens": 0}), "max_output_tokens"),
        (RESPONSES, json!({"input": "a", "previous_response_id": "x"}), "previous_response_id"),
        (EMBEDDINGS, json!({}), "input"),
        (EMBEDDINGS, json!({"input": []}), "input"),
        (EMBEDDINGS, json!({"input": ["a", ""]}), "input[1]"),
        (EMBEDDINGS, json!({"input": [[1, "a", {}]]}), "input[0][2]"),
        (EMBEDDINGS, json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
        (EMBEDDINGS, json!({"input": "a", "dimensions": 0}), "dimensions"),
        (RERANK, json!({"documents": ["a"]}), "query"),
        (RERANK, json!({"query": "a", "documents": []}), "documents"),
        (RERANK, json!({"query": "a", "documents": [1]}), "documents[0]"),
        (MESSAGES, json!({}), "messages"),
        (MESSAGES, json!({"max_tokens": 5, "messages": [{"role": "robot", "content": "x"}]}), "messages[0].role"),
        (MESSAGES, json!({"max_tokens": 0, "messages": [{"role": "user", "content": "x"}]}), "max_tokens"),
        (MESSAGES, json!({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "x"}]}]}), "messages[0].content[0]"),
        (MESSAGES, json!({"max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "thinking": {"type": "deep"}}), "thinking.type"),
        (MESSAGES, json!({"max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "tools": [{}]}), "tools[0]"),
        (MESSAGES, json!({"max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "stop_sequences": "x1", "system": 7}), "system"),
        (COUNT, json!({"messages": "x"}), "messages"),
        (NATIVE, json!({}), "prompt"),
        (NATIVE, json!({"prompt": [1, true]}), "prompt[1]"),
        (NATIVE, json!({"prompt": "a", "n_predict": "many"}), "n_predict"),
        (NATIVE, json!({"prompt": "a", "n_probs": 99}), "n_probs"),
        (NATIVE, json!({"prompt": "a", "json_schema": 5}), "json_schema"),
        (NATIVE, json!({"prompt": "a", "post_sampling_probs": true}), "post_sampling_probs"),
        (NATIVE, json!({"prompt": {"prompt_string": 1}}), "prompt.prompt_string"),
        ("/infill", json!({}), "input_prefix"),
        ("/infill", json!({"input_prefix": "a", "input_suffix": "b", "input_extra": [{}]}), "input_extra[0].text"),
        ("/embedding", json!({"content": 1}), "content"),
        ("/tokenize", json!({"content": 1}), "content"),
        ("/detokenize", json!({"tokens": [1, "a"]}), "tokens[1]"),
        ("/apply-template", json!({"messages": 1}), "messages"),
        ("/api/chat", json!({"model": 1}), "model"),
        ("/api/chat", json!({"model": "fake", "messages": "x"}), "messages"),
        ("/api/chat", json!({"model": "fake", "messages": [{"role": "user", "content": "x"}], "options": {"num_ctx": "x"}}), "options.num_ctx"),
        ("/api/chat", json!({"model": "fake", "messages": [{"role": "user", "content": "x", "images": ["@@"]}]}), "messages[0].images[0]"),
        ("/api/chat", json!({"model": "fake", "messages": [], "keep_alive": "soon"}), "keep_alive"),
        ("/api/chat", json!({"model": "fake", "messages": [{"role": "user", "content": "x"}], "format": 3}), "format"),
        ("/api/generate", json!({"model": "fake", "prompt": 3}), "prompt"),
        ("/api/generate", json!({"model": "fake", "prompt": "x", "options": []}), "options"),
        ("/api/embed", json!({"model": "fake", "input": [1]}), "input"),
        ("/api/show", json!({}), "model"),
        ("/api/create", json!({"from": "fake"}), "model"),
        ("/api/copy", json!({"source": "fake"}), "destination"),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn methods_sizes_forms_and_unknown_names_are_refused() {
    let world = World::new(Script::default()).await;
    let chat = r#"{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}"#;
    let big = " ".repeat(9 << 20);
    let multipart = ("content-type", "multipart/form-data; boundary=b");
    let plain = ("content-type", "text/plain");
    let mut all = Vec::new();
    for (method, path, header, body, status, field) in [
        (Method::GET, CHAT, plain, "", 405, ""),
        (Method::PUT, CHAT, plain, chat, 405, ""),
        (Method::DELETE, "/v1/models", plain, "", 405, ""),
        (Method::GET, MESSAGES, plain, "", 405, ""),
        (Method::GET, "/api/chat", plain, "", 405, ""),
        (Method::POST, "/v1/nothing", plain, "{}", 404, ""),
        (Method::POST, "/api/nothing", plain, "{}", 404, ""),
        (Method::POST, CHAT, plain, chat, 404, ""),
        (Method::POST, CHAT, plain, &big, 413, ""),
        (Method::POST, MESSAGES, plain, &big, 413, ""),
        (Method::POST, "/api/chat", plain, &big, 413, ""),
        (Method::POST, TRANSCRIPTIONS, plain, "x", 400, ""),
        (Method::POST, TRANSCRIPTIONS, multipart, "--c--", 400, ""),
        (
            Method::POST,
            TRANSCRIPTIONS,
            multipart,
            "--b--\r\n",
            400,
            "file",
        ),
        (
            Method::POST,
            TRANSCRIPTIONS,
            multipart,
            "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n",
            400,
            "file",
        ),
    ] {
        let reply = world.http(method, path, &[header], body.to_owned()).await;
        all.extend(wrong(path, body, &reply, status, field));
    }
    // Of a field that occurs twice the last one counts.
    let twice =
        r#"{"messages": 1, "messages": [{"role": "user", "content": "x"}], "n": 1, "n": 99}"#;
    let reply = world.http(Method::POST, CHAT, &[], twice.to_owned()).await;
    all.extend(wrong(CHAT, twice, &reply, 400, "n"));
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert_eq!(world.engine.started(), 0);
}
