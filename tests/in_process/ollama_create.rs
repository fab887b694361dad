//! Models that clients make over Ollama's API.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use hearth_proto::{FailureKind, GenerateRequest, Prompt};
use hearth_testing::{Folder, Script};
use hearthd::models::Defaults;
use hyper::Method;
use serde_json::{Value, json};

use crate::harness::{MODEL, World, user as user_id};
use crate::http::Reply;
use crate::ollama_models::sha256;

const CREATE: &str = "/api/create";
const CHAT: &str = "/api/chat";
const OPENAI: &str = "/v1/chat/completions";

async fn world() -> World {
    over(Folder::with_model(MODEL).unwrap()).await
}

/// A daemon in which every caller may change models, and whose engine accepts every file.
pub async fn over(folder: Folder) -> World {
    let engine = folder.path().join("engine");
    fs::write(&engine, "#!/bin/sh\necho '{\"ok\": true}'\n").unwrap();
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "[paths]\nengine = {:?}\n[dbus]\nmodel_admins = \"group\"\n",
        engine.display().to_string()
    );
    World::over(folder, &config, Script::default()).await
}

fn user(content: &str) -> Value {
    json!([{"role": "user", "content": content}])
}

/// A model with a system prompt, an example and options.
fn brief() -> Value {
    json!({"model": "brief", "from": "fake:latest", "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
        "parameters": {"temperature": 0.5, "stop": ["\n"], "num_predict": 3, "num_ctx": 512}})
}

async fn created(world: &World, request: &Value) {
    let lines = world.post(CREATE, request).await.lines();
    assert_eq!(lines.last().unwrap()["status"], "success", "{lines:?}");
}

async fn delete(world: &World, name: &str) -> Reply {
    let body = json!({"model": name}).to_string();
    world.http(Method::DELETE, "/api/delete", &[], body).await
}

async fn names(world: &World) -> Vec<String> {
    let tags = world.get("/api/tags").await.json();
    let models = tags["models"].as_array().unwrap().iter();
    models
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Roles and texts of what the engine was asked last.
fn conversation(request: &GenerateRequest) -> Vec<(&str, &str)> {
    let Prompt::Chat { messages, .. } = &request.prompt else {
        panic!("{request:?}");
    };
    let texts = messages.iter();
    texts
        .map(|m| (m.role.as_str(), m.content.as_str()))
        .collect()
}

#[tokio::test]
async fn settings_of_a_derived_model_apply_in_every_api() {
    proves!("POST /api/create", "system messages");
    let world = world().await;
    created(&world, &brief()).await;
    let chat = json!({"model": "brief", "messages": user("Hello"), "stream": false});
    let answer = world.post(CHAT, &chat).await.json();
    assert_eq!(
        (&answer["model"], &answer["message"]["content"]),
        (&json!("brief"), &json!("Hel"))
    );
    world
        .post(
            OPENAI,
            &json!({"model": "brief", "messages": user("Hello")}),
        )
        .await;
    world
        .post(
            "/api/generate",
            &json!({"model": "brief:latest", "prompt": "Hello"}),
        )
        .await;
    let requests = world.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        let expected = [
            ("system", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Ho"),
            ("user", "Hello"),
        ];
        assert_eq!(conversation(request), expected);
        assert_eq!(request.sampling.temperature, Some(0.5));
        assert_eq!(
            (request.max_tokens, request.context_max),
            (Some(3), Some(512))
        );
        assert_eq!(request.stop, ["\n"]);
    }
    assert_eq!(world.loads(), ["fake"], "there is one file");
}

#[tokio::test]
async fn a_request_goes_before_the_settings() {
    let world = world().await;
    created(&world, &brief()).await;
    let system = json!({"role": "system", "content": "Rhyme."});
    let chat = json!({"model": "brief", "messages": [system, {"role": "user", "content": "x"}],
        "options": {"temperature": 0, "num_predict": 9, "num_ctx": 99, "stop": "."}});
    world.post(CHAT, &chat).await;
    let request = &world.requests()[0];
    assert_eq!(conversation(request)[0], ("system", "Rhyme."));
    assert_eq!(request.sampling.temperature, Some(0.0));
    assert_eq!(
        (request.max_tokens, request.context_max),
        (Some(9), Some(99))
    );
    assert_eq!(request.stop, ["."]);
}

#[tokio::test]
async fn a_derived_model_is_listed_shown_copied_and_deleted() {
    proves!("POST /api/copy", "source destination");
    let world = world().await;
    created(&world, &brief()).await;
    assert_eq!(names(&world).await, ["brief:latest", "fake:latest"]);
    let shown = world
        .post("/api/show", &json!({"model": "brief"}))
        .await
        .json();
    assert_eq!(
        (&shown["system"], &shown["details"]["parent_model"]),
        (&json!("Be brief."), &json!("fake"))
    );
    let parameters = shown["parameters"].as_str().unwrap();
    assert!(
        parameters.contains("temperature                    0.5"),
        "{parameters}"
    );
    assert_eq!(
        shown["messages"][1],
        json!({"role": "assistant", "content": "Ho"})
    );
    let copy = json!({"source": "brief", "destination": "short"});
    assert_eq!(world.post("/api/copy", &copy).await.status, 200);
    assert_eq!(world.post("/api/copy", &copy).await.status, 400);
    // It survives its daemon.
    let world = over(world.stop().await).await;
    assert_eq!(
        names(&world).await,
        ["brief:latest", "fake:latest", "short:latest"]
    );
    assert_eq!(delete(&world, "brief:latest").await.status, 200);
    assert_eq!(delete(&world, "brief").await.status, 404);
    assert_eq!(names(&world).await, ["fake:latest", "short:latest"]);
    world
        .post(CHAT, &json!({"model": "short", "messages": user("x")}))
        .await;
    assert_eq!(
        conversation(&world.requests()[0])[0],
        ("system", "Be brief.")
    );
}

#[tokio::test]
async fn a_derived_model_may_be_derived_from_and_replaced() {
    let world = world().await;
    created(&world, &brief()).await;
    let rhymes = json!({"model": "rhymes", "from": "brief", "system": "Rhyme.", "stream": false});
    created(&world, &rhymes).await;
    world
        .post(CHAT, &json!({"model": "rhymes", "messages": user("x")}))
        .await;
    let request = world.requests().pop().unwrap();
    assert_eq!(
        conversation(&request)[..2],
        [("system", "Rhyme."), ("user", "Hi")]
    );
    assert_eq!(request.max_tokens, Some(3));
    created(
        &world,
        &json!({"model": "brief", "from": "fake", "system": "New."}),
    )
    .await;
    world
        .post(CHAT, &json!({"model": "brief", "messages": user("x")}))
        .await;
    let request = world.requests().pop().unwrap();
    assert_eq!(conversation(&request), [("system", "New."), ("user", "x")]);
}

#[tokio::test]
async fn a_base_that_is_in_use_is_not_deleted() {
    let world = world().await;
    world.folder.add_model("mine").unwrap();
    created(
        &world,
        &json!({"model": "new", "from": "mine", "system": "x"}),
    )
    .await;
    let refused = delete(&world, "mine").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("new"), "{refused:?}");
    assert_eq!(delete(&world, "new").await.status, 200);
    assert_eq!(delete(&world, "mine").await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_made_is_refused() {
    proves!(
        "POST /api/create",
        "quantize",
        "refused: `hearthctl quantize`"
    );
    proves!(
        "POST /api/create",
        "template",
        "refused: unless it is the file's own"
    );
    let world = world().await;
    world.folder.add_model("mine").unwrap();
    let with = |field: &str, value: Value| {
        let mut request = json!({"model": "new", "from": "fake"});
        request[field] = value;
        request
    };
    for (request, status, part) in [
        (with("from", json!("nope")), 404, "nope"),
        (with("model", json!("../x")), 400, "model name"),
        (with("model", json!("mine")), 400, "already exists"),
        (with("quantize", json!("q4_0")), 400, "`quantize`"),
        (with("template", json!("{{ .Prompt }}")), 400, "`template`"),
        (
            with("adapters", json!({"a.safetensors": "sha256:1"})),
            400,
            "`adapters`",
        ),
        (
            with("adapters", json!({"a.gguf": "sha256:1"})),
            400,
            "digest",
        ),
        (with("files", json!({"a.gguf": "sha256:1"})), 400, "digest"),
        (
            with("files", json!({"model.safetensors": "sha256:1"})),
            400,
            "`files`",
        ),
        (
            with("parameters", json!({"temperature": 11})),
            400,
            "temperature",
        ),
        (with("lora", json!({"tone": 1})), 400, "tone"),
    ] {
        let mut plain = request.clone();
        plain["stream"] = false.into();
        let reply = world.post(CREATE, &plain).await;
        assert_eq!(reply.status, status, "{request}: {reply:?}");
        let error = reply.json()["error"].take();
        assert!(error.as_str().unwrap().contains(part), "{request}: {error}");
        // In a stream it is the status or the last line.
        let streamed = world.post(CREATE, &request).await;
        let error = streamed.lines().pop().unwrap()["error"].take();
        assert!(
            error.as_str().unwrap().contains(part),
            "{request}: {streamed:?}"
        );
    }
    assert_eq!(names(&world).await, ["fake:latest", "mine:latest"]);
}

/// A model file, and its digest.
fn file() -> (String, String) {
    // A header without keys and tensors; all of it is text.
    let bytes = "GGUF\u{3}\0\0\0".to_owned() + &"\0".repeat(16);
    let digits = sha256(bytes.as_bytes());
    (bytes, format!("sha256:{digits}"))
}

async fn send(world: &World, digest: &str, bytes: &str) -> Reply {
    let path = format!("/api/blobs/{digest}");
    world.http(Method::POST, &path, &[], bytes.to_owned()).await
}

async fn has(world: &World, digest: &str) -> u16 {
    let path = format!("/api/blobs/{digest}");
    world
        .http(Method::HEAD, &path, &[], String::new())
        .await
        .status
}

#[tokio::test]
async fn an_uploaded_file_becomes_a_model() {
    proves!("POST /api/create", "files");
    proves!(
        "HEAD /api/blobs/{digest}, POST /api/blobs/{digest}",
        "digest"
    );
    let world = world().await;
    let (bytes, digest) = file();
    assert_eq!(has(&world, &digest).await, 404);
    assert_eq!(send(&world, &digest, &bytes).await.status, 201);
    assert_eq!(has(&world, &digest).await, 200);
    assert_eq!(
        send(&world, &digest, &bytes).await.status,
        200,
        "it is there already"
    );
    created(
        &world,
        &json!({"model": "sent", "files": {"m.gguf": digest}, "system": "Hm."}),
    )
    .await;
    assert_eq!(names(&world).await, ["fake:latest", "sent:latest"]);
    assert_eq!(
        fs::read(world.folder.models().join("sent.gguf")).unwrap(),
        bytes.as_bytes()
    );
    world
        .post(CHAT, &json!({"model": "sent", "messages": user("x")}))
        .await;
    assert_eq!(
        conversation(&world.requests()[0]),
        [("system", "Hm."), ("user", "x")]
    );
    // Its settings go with it.
    world
        .daemon
        .pool
        .unload(&crate::harness::caller(), None)
        .await
        .unwrap();
    assert_eq!(delete(&world, "sent").await.status, 200);
    let left = fs::read_dir(world.folder.models()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // What begins with a dot is no model: the digests, or the file that replaces theirs.
    let left: Vec<String> = left.filter(|name| !name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_file_with_another_digest_is_not_kept() {
    let world = world().await;
    let (bytes, digest) = file();
    let refused = send(&world, &digest, &(bytes + "x")).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("digest"), "{refused:?}");
    assert_eq!(has(&world, &digest).await, 404);
    for bad in ["sha256:12", "md5:12", "x"] {
        assert_eq!(send(&world, bad, "x").await.status, 400, "{bad}");
        assert_eq!(has(&world, bad).await, 400, "{bad}");
    }
    assert_eq!(fs::read_dir(world.folder.models()).unwrap().count(), 0);
}

#[tokio::test]
async fn only_administrators_make_models() {
    let world = World::new(Script::default()).await;
    let stranger = user_id(65_534);
    let store = &world.daemon.store;
    let denied = Err(FailureKind::AccessDenied);
    let derived = store
        .derive(&stranger, "new", MODEL, Defaults::default())
        .await;
    assert_eq!(derived.map_err(|failure| failure.kind), denied);
    let (_, digest) = file();
    let upload = store.receive_blob(&stranger, &digest, 1).await;
    assert_eq!(upload.map(|_| ()).map_err(|failure| failure.kind), denied);
    assert_eq!(fs::read_dir(world.folder.models()).unwrap().count(), 0);
}

#[tokio::test]
async fn uploads_end_with_the_daemon() {
    let world = world().await;
    let (bytes, digest) = file();
    send(&world, &digest, &bytes).await;
    let world = over(world.stop().await).await;
    assert_eq!(has(&world, &digest).await, 404);
}
