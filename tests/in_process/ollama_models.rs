//! What Ollama's API shows of the models, and its embeddings.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;

use hearth_gguf::synthetic::{Storage, make};
use hearth_testing::Script;
use hearthd::caller::Permission;
use hyper::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{MODEL, World, caller, until_async};

/// The entry of a model in `/api/tags`.
async fn tag(world: &World, name: &str) -> Value {
    let tags = world.get("/api/tags").await.json();
    let models = tags["models"].as_array().unwrap().iter();
    let named = format!("{name}:latest");
    let mut found = models.filter(|model| model["name"] == named.as_str());
    found.next().unwrap_or_else(|| panic!("{tags}")).clone()
}

/// A digest in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

async fn shown(world: &World, request: Value) -> Value {
    let reply = world.post("/api/show", &request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[tokio::test(start_paused = true)]
async fn programs_find_the_service_as_they_find_ollama() {
    let world = World::new(Script::default()).await;
    let agent = [("User-Agent", "ollama-python/0.6.2"), ("Accept", "*/*")];
    let get = world.http(Method::GET, "/", &agent, String::new()).await;
    assert_eq!((get.status, get.body.as_str()), (200, "Ollama is running"));
    for path in ["/", "/api/tags", "/api/version", "/api/ps"] {
        let head = world.http(Method::HEAD, path, &agent, String::new()).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    let person = [("User-Agent", "curl/8.14.1"), ("Accept", "*/*")];
    let list = world.http(Method::GET, "/", &person, String::new()).await;
    assert!(list.body.contains("POST /api/push"), "{list:?}");
    let browser = [("User-Agent", "Mozilla/5.0"), ("Accept", "text/html")];
    let page = world.http(Method::GET, "/", &browser, String::new()).await;
    assert!(page.body.starts_with("<!doctype html>"), "{page:?}");
}

#[tokio::test(start_paused = true)]
async fn a_model_without_metadata_is_shown() {
    proves!("POST /api/show", "system");
    let world = World::new(Script::default()).await;
    let shown = shown(&world, json!({"model": "fake:latest"})).await;
    assert_eq!(shown["model_info"], json!({}));
    let modelfile = shown["modelfile"].as_str().unwrap();
    assert!(modelfile.contains("FROM fake:latest\n"), "{modelfile}");
    let system = json!({"model": "fake", "system": "Be brief."});
    assert_eq!(self::shown(&world, system).await["system"], "Be brief.");
    assert_eq!(
        tag(&world, MODEL).await["capabilities"],
        json!(["completion"])
    );
}

#[tokio::test(start_paused = true)]
async fn the_metadata_of_a_file_is_shown() {
    proves!("POST /api/show", "verbose");
    let world = World::new(Script::default()).await;
    let path = world.folder.models().join("mine.gguf");
    let shape = "1,64,128,4,2,300".parse().unwrap();
    make(&path, shape, Storage::Q4KM, 1, &mut |_, _| ()).unwrap();
    let short = shown(&world, json!({"model": "mine"})).await;
    let info = &short["model_info"];
    let family = short["details"]["family"].as_str().unwrap();
    assert_eq!(info["general.architecture"], family);
    assert_eq!(info[format!("{family}.block_count")], 1);
    assert_eq!(short["details"]["embedding_length"], 64);
    assert!(info["general.parameter_count"].as_u64() > Some(0));
    assert_eq!(info["tokenizer.ggml.tokens"], json!([]));
    let all = shown(&world, json!({"model": "mine", "verbose": true})).await;
    let tokens = &all["model_info"]["tokenizer.ggml.tokens"];
    assert_eq!(tokens.as_array().map(Vec::len), Some(300));
}

#[tokio::test]
async fn digests_are_those_of_the_files() {
    let world = World::new(Script::default()).await;
    let path = world.folder.add_model("mine").unwrap();
    let stored = world.folder.models().join(".digests.json");
    world.daemon.models().await;
    assert!(!stored.exists(), "nobody has asked for digests");
    let expected = |path| sha256(&fs::read(path).unwrap());
    let is_known = async || tag(&world, "mine").await["digest"] == expected(&path);
    until_async("the digest is known", is_known).await;
    // They are stored: another daemon has them at once.
    until_async("both are stored", async || {
        fs::read_to_string(&stored).is_ok_and(|text| text.matches("sha256").count() == 2)
    })
    .await;
    let world = World::over(world.stop().await, "", Script::default()).await;
    assert_eq!(tag(&world, "mine").await["digest"], expected(&path));
    // Another file under the same name has another one.
    fs::write(&path, b"no model").unwrap();
    let until_then = tag(&world, "mine").await["digest"].clone();
    assert_ne!(until_then, sha256(b"no model"));
    assert_eq!(until_then.as_str().map(str::len), Some(64));
    let is_known = async || tag(&world, "mine").await["digest"] == sha256(b"no model");
    until_async("the new digest is known", is_known).await;
}

#[tokio::test(start_paused = true)]
async fn num_ctx_bounds_prompt_and_answer() {
    let world = World::new(Script::default()).await;
    let ask = async |num_ctx: Value| {
        let request = json!({"messages": [{"role": "user", "content": "Hello"}], "stream": false,
            "options": {"num_ctx": num_ctx}});
        world.post("/api/chat", &request).await
    };
    let cut = ask(json!(7)).await.json();
    assert_eq!(
        (&cut["message"]["content"], &cut["done_reason"]),
        (&json!("He"), &json!("length"))
    );
    assert_eq!(ask(json!(5)).await.status, 400);
    for whole in [json!(8192), json!(0), json!(null)] {
        let answer = ask(whole).await.json();
        assert_eq!(answer["message"]["content"], "Hello");
    }
}

#[tokio::test(start_paused = true)]
async fn long_texts_are_cut_and_vectors_shortened() {
    let script = Script {
        context: Some(64),
        ..Script::default()
    };
    let world = World::new(script).await;
    let long = "a".repeat(50) + &"z".repeat(50);
    let embed = async |request: Value| world.post("/api/embed", &request).await;
    let cut = embed(json!({"input": long})).await.json();
    assert_eq!(cut["prompt_eval_count"], 63);
    let whole = embed(json!({"input": "a".repeat(50) + &"z".repeat(13)}))
        .await
        .json();
    assert_eq!(cut["embeddings"], whole["embeddings"]);
    let refused = embed(json!({"input": long, "truncate": false})).await;
    assert_eq!(refused.status, 400);
    // The older endpoint refuses, unless told otherwise.
    let older = world
        .post("/api/embeddings", &json!({"prompt": long}))
        .await;
    assert_eq!(older.status, 400);
    let older = json!({"prompt": long, "truncate": true});
    assert_eq!(world.post("/api/embeddings", &older).await.status, 200);
    let short = embed(json!({"input": "abc", "dimensions": 2})).await.json();
    let short = short["embeddings"][0].as_array().unwrap();
    let half = f64::sqrt(0.5);
    assert_eq!(short.len(), 2);
    assert!(
        short
            .iter()
            .all(|v| (v.as_f64().unwrap() - half).abs() < 1e-6)
    );
    let same = embed(json!({"input": "abc", "dimensions": 9999}))
        .await
        .json();
    assert_eq!(same["embeddings"][0].as_array().map(Vec::len), Some(26));
}

#[tokio::test(start_paused = true)]
async fn push_is_refused() {
    proves!(
        "POST /api/push",
        "model name stream",
        "refused: the service has no network"
    );
    let world = World::new(Script::default()).await;
    for request in [
        json!({"model": "fake"}),
        json!({"name": "fake"}),
        json!({"model": "fake", "stream": false}),
    ] {
        let reply = world.post("/api/push", &request).await;
        assert_eq!(reply.status, 400);
        let error = reply.json()["error"].take();
        assert!(error.as_str().unwrap().contains("no network"), "{error}");
    }
}

#[tokio::test]
async fn pull_follows_an_import_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, go) = (folder.path().join("engine"), folder.path().join("go"));
    let script = format!(
        "#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.05; done\necho '{{\"ok\": true}}'\n",
        go.display()
    );
    fs::write(&engine, script).unwrap();
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "[paths]\nengine = {:?}\n[dbus]\nmodel_admins = \"group\"\n",
        engine.display().to_string()
    );
    let world = World::with(&config, Script::default()).await;
    let source = world.folder.add_model("source").unwrap();
    let pull = json!({"model": "new:latest"});
    assert_eq!(world.post("/api/pull", &pull).await.status, 404);
    let daemon = world.daemon.clone();
    let import = tokio::spawn(async move {
        let file = File::open(source).unwrap();
        let permission = Permission::ByRule;
        daemon
            .import_model(&caller(), permission, "new", file)
            .await
    });
    let runs = async || {
        let copied = world.daemon.store.import_progress("new");
        copied.is_some_and(|copied| copied.borrow().done > 0)
    };
    until_async("the import runs", runs).await;
    let mut lines = world.open("/api/pull", &pull).await;
    lines.until(r#""total":24,"completed":24}"#).await;
    assert!(!lines.text.contains("success"), "{}", lines.text);
    fs::write(go, "").unwrap();
    lines.until(r#"{"status":"success"}"#).await;
    import.await.unwrap().unwrap();
    assert_eq!(world.post("/api/pull", &pull).await.status, 200);
}
