//! Adapters: listed with their models, named in requests, sent to the engine.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use hearth_gguf::read_header;
use hearth_gguf::synthetic::{AdapterShape, Shape, Storage, make, make_adapter};
use hearth_proto::{AdapterRef, Command, FailureKind, Lora};
use hearth_testing::{Answers, Folder, Script, Step};
use serde_json::{Value, json};

use crate::bus::Options;
use crate::harness::{MODEL, World, until};
use crate::http::{CHAT, body};

fn write_model(path: &Path, shape: &str) {
    let shape = shape.parse::<Shape>().unwrap();
    make(path, shape, Storage::Q4KM, 1, &mut |_, _| ()).unwrap();
}

fn write_adapter(path: &Path, base: &Path) {
    let base = read_header(&mut BufReader::new(File::open(base).unwrap())).unwrap();
    make_adapter(path, &base, AdapterShape::default(), 1).unwrap();
}

/// A folder whose only imported model has two adapters, with a third of another base.
pub fn folder() -> Folder {
    let folder = Folder::with_model(MODEL).unwrap();
    let at = |name: &str| folder.models().join(name);
    write_model(&at("small.gguf"), "1,64,128,4,2,300");
    write_adapter(&at("brief.gguf"), &at("small.gguf"));
    write_adapter(&at("tone.gguf"), &at("small.gguf"));
    let wide = folder.path().join("wide.gguf");
    write_model(&wide, "1,128,128,4,2,300");
    write_adapter(&at("wide.gguf"), &wide);
    folder
}

async fn world(script: Script) -> World {
    World::over(folder(), "", script).await
}

fn named(name: &str, scale: f32) -> Lora {
    Lora {
        adapter: AdapterRef::Name(name.into()),
        scale,
    }
}

fn with(lora: Value) -> Value {
    let mut body = body("Hello");
    body["lora"] = lora;
    body
}

#[tokio::test(start_paused = true)]
async fn adapters_are_shown_with_their_models_and_are_none() {
    let world = world(Script::default()).await;
    let get = async |path: &str| {
        let reply = world
            .http(hyper::Method::GET, path, &[], String::new())
            .await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    };
    assert_eq!(
        get("/lora-adapters").await,
        json!([
            {"id": 0, "path": "brief.gguf", "scale": 0.0},
            {"id": 1, "path": "tone.gguf", "scale": 0.0},
        ])
    );
    let models = get("/v1/models").await;
    let ids: Vec<&Value> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(ids, [MODEL, "small"]);
    assert_eq!(
        models["data"][1]["meta"]["adapters"],
        json!(["brief", "tone"])
    );
    let tags = get("/api/tags").await;
    assert_eq!(tags["models"].as_array().unwrap().len(), 2);
    assert_eq!(
        tags["models"][1]["details"]["adapters"],
        json!(["brief", "tone"])
    );
    // The only imported model is the default, whatever adapters there are.
    assert_eq!(world.daemon.store.default_name().as_deref(), Some("small"));
    let adapters = world.daemon.adapters().await;
    let shown: Vec<(&str, &[String], bool)> = adapters
        .iter()
        .map(|a| (a.name.as_str(), a.bases.as_slice(), a.problem.is_empty()))
        .collect();
    let small = ["small".to_owned()];
    let expected: [(&str, &[String], bool); 3] = [
        ("brief", &small, true),
        ("tone", &small, true),
        ("wide", &[], false),
    ];
    assert_eq!(shown, expected);
}

#[tokio::test(start_paused = true)]
async fn the_engine_loads_a_models_adapters_and_gets_their_names() {
    let world = world(Script::default()).await;
    for (path, body) in [
        (CHAT, with(json!([{"id": 1, "scale": 0.5}]))),
        (
            "/v1/completions",
            json!({"prompt": "x", "lora": [{"name": "tone", "scale": 0.5}]}),
        ),
        (
            "/api/chat",
            json!({"messages": [{"role": "user", "content": "x"}], "stream": false,
                   "options": {"lora": {"tone": 0.5}}}),
        ),
    ] {
        let reply = world.post(path, &body).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    let sent: Vec<Vec<Lora>> = world.requests().into_iter().map(|r| r.lora).collect();
    assert_eq!(sent, vec![vec![named("tone", 0.5)]; 3]);
    let loads = world.engine.picked(|command| match command {
        Command::Load(request) => Some(request.adapters.clone()),
        _ => None,
    });
    let [loaded] = &loads[..] else {
        panic!("{loads:?}")
    };
    let names: Vec<&str> = loaded.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["brief", "tone"]);
    assert!(loaded.iter().all(|a| a.path.is_file() && a.bytes > 1000));
}

#[tokio::test(start_paused = true)]
async fn what_the_model_does_not_have_is_refused() {
    let world = world(Script::default()).await;
    for (lora, part) in [
        (json!([{"id": 2}]), "there are brief (0), tone (1)"),
        (json!([{"name": "none"}]), "there are brief (0), tone (1)"),
        (json!([{"name": "wide"}]), "belongs to another base"),
        (json!([{"scale": 1}]), "either `id` or `name`"),
    ] {
        let reply = world.post(CHAT, &with(lora)).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        let error = reply.json()["error"].take();
        assert_eq!(error["param"], "lora", "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
    let mut chat = body("x");
    chat["model"] = "tone".into();
    let reply = world.post(CHAT, &chat).await;
    assert_eq!(reply.status, 404);
    assert!(reply.body.contains("is an adapter"), "{reply:?}");
    assert!(world.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_keeps_its_adapters_over_a_crash() {
    let answers = Answers::new(|request| {
        let next = if request.resume.is_empty() {
            Step::Crash
        } else {
            Step::text("Two.")
        };
        vec![Step::text("One."), next]
    });
    let script = Script::answering(answers);
    let world = world(script).await;
    let reply = world.post(CHAT, &with(json!({"tone": 1}))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let requests = world.requests();
    assert!(
        requests.len() > 1 && !requests[1].resume.is_empty(),
        "{requests:?}"
    );
    assert!(requests.iter().all(|r| r.lora == [named("tone", 1.0)]));
}

#[tokio::test(start_paused = true)]
async fn adapters_that_do_not_fit_do_not_keep_their_model_out() {
    let folder = folder();
    // Of 4 GiB, 10 % and the reserve are free; the file is sparse.
    folder.board().set_available(20).unwrap();
    let adapter = File::options()
        .append(true)
        .open(folder.models().join("tone.gguf"));
    adapter.unwrap().set_len(2 << 30).unwrap();
    let world = World::over(folder, "", Script::default()).await;
    world.say("x").await.unwrap();
    let loads = world.engine.picked(|command| match command {
        Command::Load(request) => Some(request.clone()),
        _ => None,
    });
    assert!(loads[0].adapters.is_empty(), "{:?}", loads[0]);
    let note = world.daemon.status().limit_reason;
    assert!(note.contains("without its adapters"), "{note}");
    // There is no more memory when it is loaded again: it is left to the engine to refuse it.
    let reply = world.post(CHAT, &with(json!({"tone": 1}))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.loads(), ["small"]);
}

#[tokio::test(start_paused = true)]
async fn an_adapter_installed_later_is_loaded_for_the_request_that_names_it() {
    let world = world(Script::token_ms(100)).await;
    let text = "word ".repeat(20);
    let running = world.submit(&text).await.unwrap();
    world.until_running(1).await;
    let models = world.folder.models();
    write_adapter(&models.join("zest.gguf"), &models.join("small.gguf"));
    // No reason to load the model again: nobody names it.
    let reply = world.post(CHAT, &with(json!({"tone": 1}))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.loads(), ["small"]);
    for _ in 0..2 {
        let reply = world.post(CHAT, &with(json!({"zest": 1}))).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(running.collect().await.unwrap().content, text);
    let loads = world.engine.picked(|command| match command {
        Command::Load(request) => Some(request.adapters.clone()),
        _ => None,
    });
    let names = |n: usize| -> Vec<&str> { loads[n].iter().map(|a| a.name.as_str()).collect() };
    assert_eq!((loads.len(), names(0)), (2, vec!["brief", "tone"]));
    assert_eq!(names(1), ["brief", "tone", "zest"]);
    assert_eq!(world.daemon.status().engine_crashes, 0);
    // Another file of that name is another adapter.
    let zest = File::options().append(true).open(models.join("zest.gguf"));
    zest.unwrap().set_len(1 << 20).unwrap();
    let reply = world.post(CHAT, &with(json!({"zest": 1}))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.loads(), ["small"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_prewarm_applies_adapters() {
    let world = world(Script::default()).await;
    let bus = world.bus().await;
    for name in ["tone", "brief"] {
        let lora = HashMap::from([(name, 0.5_f64)]);
        let options = Options::from([("lora", lora.into())]);
        let queued: Result<(), _> = bus.manager("Prewarm", &("Be brief.", options)).await;
        queued.unwrap();
    }
    let sent = || -> Vec<(bool, Vec<Lora>)> {
        let requests = world.requests().into_iter();
        requests.map(|r| (r.prewarm, r.lora)).collect()
    };
    until("all are computed", || sent().len() == 2).await;
    let expected = ["tone", "brief"].map(|name| (true, vec![named(name, 0.5)]));
    assert_eq!(sent(), expected);
    let lora = HashMap::from([("none", 1.0_f64)]);
    let options = Options::from([("lora", lora.into())]);
    let refused = bus.refused("Prewarm", &("Be brief.", options)).await;
    assert_eq!(refused.kind, Some(FailureKind::InvalidArgs), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn an_adapter_can_be_removed_and_an_added_one_is_seen() {
    let world = world(Script::default()).await;
    let caller = crate::harness::caller();
    let permission = hearthd::caller::Permission::ByRule;
    let removed = world
        .daemon
        .remove_model(&caller, permission, "brief")
        .await;
    assert_eq!(removed, Ok(()));
    assert!(!world.folder.models().join("brief.gguf").exists());
    let models = world.folder.models();
    write_adapter(&models.join("zest.gguf"), &models.join("small.gguf"));
    let reply = world.post(CHAT, &with(json!([{"id": 1}]))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.requests()[0].lora, [named("zest", 1.0)]);
}
