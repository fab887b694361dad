//! The manager's object on the bus.

use std::collections::HashMap;
use std::time::Duration;

use hearth_proto::FailureKind;
use hearth_proto::bus::{MODEL_STORE_INTERFACE, NAME, PATH};
use hearth_testing::Script;
use tokio::time::sleep;
use zbus::OwnedVariant;

use crate::bus::Options;
use crate::harness::World;

type Changes = (String, HashMap<String, OwnedVariant>, Vec<String>);

#[tokio::test(start_paused = true)]
async fn properties_announce_their_changes() {
    let world = World::new(Script::load_ms(300)).await;
    let bus = world.bus().await;
    let mut signals = bus.listen().await;
    let load: Result<(), _> = bus.manager("LoadModel", &("", Options::new())).await;
    load.unwrap();
    // Changes within a tenth of a second are combined into one signal.
    sleep(Duration::from_millis(300)).await;
    let unload: Result<(), _> = bus.manager("UnloadModels", &(Options::new(),)).await;
    unload.unwrap();
    let mut states: Vec<String> = Vec::new();
    while states.last().is_none_or(|state| state != "unloaded") {
        let signal = signals.next("PropertiesChanged").await;
        let (interface, changed, _): Changes = signal.body().deserialize().unwrap();
        if interface != NAME {
            continue;
        }
        let state = changed.get("State").map(|s| s.downcast_ref::<String>());
        states.extend(state.map(Result::unwrap));
    }
    assert_eq!(states, ["loading", "ready", "unloaded"]);
    assert_eq!(bus.text(PATH, NAME, "State").await, "unloaded");
}

#[tokio::test(start_paused = true)]
async fn each_model_is_an_object_with_its_state_and_holds() {
    let world = World::new(Script::load_ms(300)).await;
    let bus = world.bus().await;
    let mut signals = bus.listen().await;
    let path = format!("{PATH}/models/fake");
    let interface = format!("{NAME}.Model");
    assert_eq!(bus.text(&path, &interface, "State").await, "unloaded");
    let fake = Options::from([("model", "fake".into())]);
    let cookie: u32 = bus.manager("KeepLoaded", &("voice", fake)).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    let shown = format!("{:?}", bus.properties(&path, &interface).await);
    assert!(
        shown.contains("voice") && shown.contains("completion"),
        "{shown}"
    );
    let released: Result<(), _> = bus.manager("ReleaseKeepLoaded", &(cookie,)).await;
    released.unwrap();
    let unloaded: Result<(), _> = bus
        .call(&path, &interface, "Unload", &(Options::new(),))
        .await;
    unloaded.unwrap();
    let mut states: Vec<String> = Vec::new();
    while states.last().is_none_or(|state| state != "unloaded") {
        let signal = signals.next("PropertiesChanged").await;
        let (of, changed, _): Changes = signal.body().deserialize().unwrap();
        let state = changed.get("State").map(|s| s.downcast_ref::<String>());
        if of == interface {
            states.extend(state.map(Result::unwrap));
        }
    }
    assert_eq!(states, ["loading", "ready", "unloaded"]);
    // A model that is imported gets an object, and one that is removed loses it.
    world.folder.add_model("other").unwrap();
    world.daemon.store.refresh().await;
    sleep(Duration::from_millis(300)).await;
    let other = format!("{PATH}/models/other");
    assert_eq!(bus.text(&other, &interface, "Name").await, "other");
    std::fs::remove_file(world.folder.models().join("other.gguf")).unwrap();
    world.daemon.store.refresh().await;
    sleep(Duration::from_millis(300)).await;
    let gone: Result<(), _> = bus
        .call(&other, &interface, "Load", &(Options::new(),))
        .await;
    assert!(gone.is_err());
}

#[tokio::test(start_paused = true)]
async fn invalid_arguments_are_reported() {
    use FailureKind::{AccessDenied, InvalidArgs, InvalidSchema, ModelNotFound};
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let none = Options::new;
    let fast = Options::from([("fast", true.into())]);
    let deep = r#"{"properties":{"a":{"maxItems":9999999}}}"#;
    let grammar = r#"{"messages":[{"role":"user"}],"grammar":"x"}"#;
    for (refused, kind) in [
        (bus.refused("LoadModel", &("", fast)).await, InvalidArgs),
        (
            bus.refused("LoadModel", &("nope", none())).await,
            ModelNotFound,
        ),
        (
            bus.refused_by(MODEL_STORE_INTERFACE, "Remove", &("fake", none()))
                .await,
            AccessDenied,
        ),
        (
            bus.refused("GenerateJson", &("x", "{")).await,
            InvalidSchema,
        ),
        (
            bus.refused("GenerateJson", &("x", deep)).await,
            InvalidSchema,
        ),
        (bus.refused("Chat", &(grammar,)).await, InvalidSchema),
        (bus.refused("Chat", &("{",)).await, InvalidArgs),
        (
            bus.refused("Embed", &(Vec::<&str>::new(), none())).await,
            InvalidArgs,
        ),
    ] {
        assert_eq!(refused.kind, Some(kind), "{refused:?}");
        assert_ne!(refused.message, "");
    }
    assert_eq!(world.engine.started(), 0);
    assert_eq!(bus.generate("still here").await.unwrap(), "still here");
}

#[tokio::test(start_paused = true)]
async fn models_are_loaded_listed_and_unloaded() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let list = async || -> Vec<HashMap<String, OwnedVariant>> {
        bus.call(PATH, MODEL_STORE_INTERFACE, "List", &())
            .await
            .unwrap()
    };
    let is_loaded =
        |entry: &HashMap<String, OwnedVariant>| entry["loaded"].downcast_ref::<bool>().unwrap();
    assert_eq!(list().await.iter().filter(|e| is_loaded(e)).count(), 0);
    let load: Result<(), _> = bus.manager("LoadModel", &("fake", Options::new())).await;
    load.unwrap();
    assert_eq!(list().await.iter().filter(|e| is_loaded(e)).count(), 1);
    assert_eq!(bus.text(PATH, NAME, "Model").await, "fake");
    assert_eq!(bus.text(PATH, NAME, "Cpu").await, "fake");
    let unload: Result<(), _> = bus.manager("UnloadModels", &(Options::new(),)).await;
    unload.unwrap();
    assert_eq!(list().await.iter().filter(|e| is_loaded(e)).count(), 0);
    assert_eq!(world.engine.running(), 0);
}
