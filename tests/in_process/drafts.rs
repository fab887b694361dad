//! Draft models: loaded with their models, counted, and released first.

use hearth_proto::units::Bytes;
use hearth_proto::{Command, FailureKind, LoadRequest, Submission};
use hearth_testing::{Folder, Script};
use hearthd::caller::Permission;
use hearthd::engines::ResidentModel;

use crate::harness::{MODEL, World, caller, chat, until};

const CONFIG: &str = "[model]\ndraft = { big = \"small\" }\n";
/// Of 4 GiB, with 8 % reserved: room for `big` with and without `small`.
const ROOM: u64 = 40;
const LITTLE_ROOM: u64 = 25;

/// A board with a model of 500 MiB and one of 200 MiB.
async fn world(available: u64, config: &str, script: Script) -> World {
    let folder = Folder::with_model(MODEL).unwrap();
    folder.add_model_of("big", 500).unwrap();
    folder.add_model_of("small", 200).unwrap();
    folder.board().set_available(available).unwrap();
    World::over(folder, config, script).await
}

/// Has `big` answer; returns how it was loaded.
async fn use_big(world: &World) -> (LoadRequest, ResidentModel) {
    let submission = Submission {
        model: Some("big".into()),
        ..chat("x")
    };
    let stream = world.daemon.dispatcher.submit(&caller(), submission).await;
    let answer = stream.unwrap().collect().await.unwrap();
    assert_eq!(answer.content, "x");
    let loads = world.engine.picked(|command| match command {
        Command::Load(request) => Some(request.clone()),
        _ => None,
    });
    (loads.last().unwrap().clone(), big(world))
}

fn big(world: &World) -> ResidentModel {
    world.daemon.pool.status().get("big").unwrap().clone()
}

fn count(world: &World, wanted: impl Fn(&Command) -> bool) -> usize {
    let picked = world.engine.picked(|command| wanted(command).then_some(()));
    picked.len()
}

#[tokio::test(start_paused = true)]
async fn a_draft_model_is_loaded_with_its_model_and_counted() {
    let alone = use_big(&world(ROOM, "", Script::default()).await).await.1;
    let world = world(ROOM, CONFIG, Script::default()).await;
    let (request, model) = use_big(&world).await;
    let draft = request.draft.unwrap();
    assert_eq!(draft.name, "small");
    assert_eq!(draft.path, world.folder.models().join("small.gguf"));
    assert_eq!(
        (model.draft.as_deref(), model.note.as_str()),
        (Some("small"), "")
    );
    assert!(model.estimate.0 >= alone.estimate.0 + Bytes::mib(200).0);
    let memory_max = request.memory_max.unwrap();
    assert!(memory_max > model.estimate.0 - Bytes::mib(700).0);
    // It is shown, and not removed while it is in use.
    let listed = world.daemon.models().await;
    let entry = listed.iter().find(|model| model.name == "big").unwrap();
    assert_eq!(entry.draft, "small");
    let states = world.daemon.model_states();
    let state = states.iter().find(|state| state.name == "big").unwrap();
    assert_eq!(state.draft, "small");
    assert_eq!(state.memory_bytes, model.estimate.0);
    let running = world.get("/api/ps").await.json();
    assert_eq!(running["models"][0]["draft"], "small");
    let caller = caller();
    let removed = world
        .daemon
        .remove_model(&caller, Permission::ByRule, "small");
    assert_eq!(removed.await.unwrap_err().kind, FailureKind::Busy);
}

#[tokio::test(start_paused = true)]
async fn a_model_is_loaded_without_its_draft_model_where_memory_is_short() {
    let world = world(LITTLE_ROOM, CONFIG, Script::default()).await;
    let (request, model) = use_big(&world).await;
    assert_eq!((request.draft, model.draft), (None, None));
    let note = "without its draft model small";
    assert!(model.note.contains(note), "{}", model.note);
    assert!(model.estimate < Bytes::mib(700), "{}", model.estimate);
    assert!(world.daemon.status().limit_reason.contains(note));
}

#[tokio::test(start_paused = true)]
async fn a_draft_model_of_another_vocabulary_is_refused_and_its_memory_is_free() {
    let script = Script {
        draft_problem: "it has another vocabulary".into(),
        ..Script::default()
    };
    let world = world(ROOM, CONFIG, script).await;
    let (request, model) = use_big(&world).await;
    assert!(request.draft.is_some());
    assert_eq!(model.draft, None);
    let note = "without its draft model small: it has another vocabulary";
    assert_eq!(model.note, note);
    assert!(model.estimate < Bytes::mib(700), "{}", model.estimate);
}

#[tokio::test(start_paused = true)]
async fn a_missing_draft_model_of_the_default_model_is_noted() {
    let config = "[model]\ndefault = \"big\"\ndraft = { default = \"none\" }\n";
    let world = world(ROOM, config, Script::default()).await;
    let (request, model) = use_big(&world).await;
    assert_eq!(request.draft, None);
    assert_eq!(
        model.note,
        "without its draft model none: it is not installed"
    );
}

#[tokio::test(start_paused = true)]
async fn draft_models_are_released_before_caches() {
    let world = world(ROOM, CONFIG, Script::default()).await;
    let before = use_big(&world).await.1.estimate;
    let releases = || count(&world, |command| matches!(command, Command::ReleaseDraft));
    let shrinks = || count(&world, |command| matches!(command, Command::Shrink));
    // Below 15 % of the memory is available.
    world.folder.board().set_available(14).unwrap();
    until("the draft model is released", || releases() == 1).await;
    assert_eq!(shrinks(), 0);
    let after = big(&world);
    assert_eq!(after.draft, None);
    assert!(after.note.ends_with("memory is short"), "{}", after.note);
    assert!(after.estimate.0 + Bytes::mib(200).0 <= before.0);
    until("the cache is released", || shrinks() > 0).await;
    assert_eq!(releases(), 1);
}
