//! The model store.

use std::fs;
use std::sync::Arc;

use hearth_gguf::synthetic::{Projector, Storage, make, make_projector};
use hearth_proto::{FailureKind, ModelRef};
use hearth_testing::Script;
use hearthd::caller::Permission;
use serde_json::json;

use crate::harness::{MODEL, World, caller, chat};

#[tokio::test(start_paused = true)]
async fn copied_and_removed_files_are_noticed() {
    let world = World::new(Script::default()).await;
    let store = &world.daemon.store;
    let names = |models: Vec<hearth_proto::ModelEntry>| -> Vec<String> {
        models.into_iter().map(|model| model.name).collect()
    };
    assert_eq!(names(world.daemon.models().await), [MODEL]);
    assert_eq!(store.default_name().as_deref(), Some(MODEL));
    let path = world.folder.add_model("mine").unwrap();
    assert_eq!(names(world.daemon.models().await), [MODEL, "mine"]);
    // The only imported one is the default.
    assert_eq!(store.default_name().as_deref(), Some("mine"));
    world.say("x").await.unwrap();
    assert_eq!(world.loads(), ["mine"]);
    fs::remove_file(path).unwrap();
    assert_eq!(names(world.daemon.models().await), [MODEL]);
    let missing = store.find(&ModelRef::named("mine")).await;
    assert_eq!(missing.unwrap_err().kind, FailureKind::ModelNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_header_is_read_once_for_each_file() {
    let world = World::new(Script::default()).await;
    let header = async || {
        let found = world.daemon.store.find(&ModelRef::named("mine")).await;
        found.unwrap().header.unwrap()
    };
    world.folder.add_model("mine").unwrap();
    let first = header().await;
    assert!(Arc::ptr_eq(&first, &header().await));
    // Another file under the same name is read.
    fs::write(world.folder.models().join("mine.gguf"), b"no model").unwrap();
    let found = world.daemon.store.find(&ModelRef::named("mine")).await;
    assert!(found.unwrap().header.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_loaded_model_is_not_removed() {
    let world = World::new(Script::default()).await;
    world.folder.add_model("mine").unwrap();
    let mut submission = chat("x");
    submission.model = Some("mine".into());
    let answered = world.daemon.dispatcher.submit(&caller(), submission).await;
    answered.unwrap().collect().await.unwrap();
    let permission = Permission::ByRule;
    let remove = async |name: &str| {
        let removed = world.daemon.remove_model(&caller(), permission, name).await;
        removed.map_err(|failure| failure.kind)
    };
    assert_eq!(remove("mine").await, Err(FailureKind::Busy));
    world.daemon.pool.unload(&caller(), None).await.unwrap();
    assert_eq!(remove("mine").await, Ok(()));
    assert_eq!(remove("mine").await, Err(FailureKind::ModelNotFound));
    assert_eq!(remove(MODEL).await, Err(FailureKind::AccessDenied));
    assert!(!world.folder.models().join("mine.gguf").exists());
}

#[tokio::test(start_paused = true)]
async fn models_are_shown_copied_and_deleted() {
    let world = World::new(Script::default()).await;
    world.folder.add_model("mine").unwrap();
    let status = async |path: &str, body: serde_json::Value| world.post(path, &body).await.status;
    assert_eq!(
        status("/api/show", json!({"model": "mine:latest"})).await,
        200
    );
    assert_eq!(status("/api/show", json!({"model": "none"})).await, 404);
    for body in [
        json!({"model": "mine"}),
        json!({"name": "mine:latest", "stream": true}),
    ] {
        let pulled = world.post("/api/pull", &body).await;
        assert_eq!(pulled.lines().last().unwrap()["status"], "success");
    }
    let copy = async |from: &str, to: &str| {
        let body = json!({"source": from, "destination": to});
        status("/api/copy", body).await
    };
    assert_eq!(copy("mine", "other:latest").await, 200);
    assert_eq!(copy("mine", "other").await, 400);
    assert_eq!(copy("mine", "../other").await, 400);
    assert_eq!(copy("none", "third").await, 404);
    let delete = async |name: &str| {
        let body = json!({"model": name}).to_string();
        let reply = world.http(hyper::Method::DELETE, "/api/delete", &[], body);
        reply.await.status
    };
    assert_eq!(delete("mine:latest").await, 200);
    assert_eq!(delete("mine").await, 404);
    assert_eq!(delete("").await, 400);
    assert_eq!(delete(MODEL).await, 403);
    assert!(!world.folder.models().join("mine.gguf").exists());
    assert!(world.folder.models().join("other.gguf").exists());
}

#[tokio::test(start_paused = true)]
async fn a_projector_is_copied_and_removed_with_its_model() {
    let world = World::new(Script::default()).await;
    let file = |name: &str| world.folder.models().join(format!("{name}.gguf"));
    let text = "1,64,64,2,1,300".parse().unwrap();
    make(&file("eye"), text, Storage::Q4KM, 1, &mut |_, _| ()).unwrap();
    // Not named after the model: it belongs to it as the only one that it fits.
    let shape = Projector::named("tiny-gemma3").unwrap();
    make_projector(&file("mmproj-f16"), shape, 1).unwrap();
    let takes_pictures = async || -> Vec<String> {
        let models = world.daemon.models().await;
        let with = models.iter().filter(|m| m.vision && m.projector_bytes > 0);
        with.map(|m| m.name.clone()).collect()
    };
    assert_eq!(takes_pictures().await, ["eye"]);
    let store = &world.daemon.store;
    let copy = async |to: &str| store.copy(&caller(), &ModelRef::named("eye"), to).await;
    copy("lens").await.unwrap();
    assert_eq!(takes_pictures().await, ["eye", "lens"]);
    let remove = async |name: &str| {
        let caller = caller();
        let removed = store.remove(&caller, Permission::ByRule, name, |_| false);
        removed.await.unwrap();
    };
    remove("lens").await;
    assert!(!file("lens").exists() && !file("mmproj-lens").exists());
    assert!(file("mmproj-f16").exists());
    assert_eq!(takes_pictures().await, ["eye"]);
    fs::copy(file("mmproj-f16"), file("mmproj-lens")).unwrap();
    let taken = copy("lens").await.unwrap_err();
    assert_eq!(taken.kind, FailureKind::InvalidArgs);
    assert!(!file("lens").exists());
}
