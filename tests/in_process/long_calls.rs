//! Calls that take long, as jobs; and inhibitors that end before they are released.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use hearth_proto::FailureKind;
use hearth_proto::bus::{MODEL_STORE_INTERFACE, NAME, PATH, TUNING_INTERFACE};
use hearth_testing::Script;
use hearthd::daemon::State;
use tokio::time::sleep;
use zbus::{OwnedObjectPath, OwnedVariant};

use crate::bus::{Bus, JOB, Options};
use crate::harness::{World, caller, until_async};

type Objects = HashMap<OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>>;

fn cancel_when_gone() -> Options<'static> {
    Options::from([("cancel_when_gone", true.into())])
}

async fn start_load(bus: &Bus, name: &str) -> String {
    let args = (name, cancel_when_gone());
    let job: OwnedObjectPath = bus.manager("StartLoadModel", &args).await.unwrap();
    job.to_string()
}

async fn start_measure(bus: &Bus) -> String {
    let args = ("", Options::new());
    let started = bus.call(PATH, TUNING_INTERFACE, "StartMeasure", &args);
    let job: OwnedObjectPath = started.await.unwrap();
    job.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_load_is_a_job_with_a_model_and_a_time() {
    let world = World::new(Script::load_ms(300)).await;
    let bus = world.bus().await;
    let job = start_load(&bus, "").await;
    let properties = bus.properties(&job, JOB).await;
    for (name, expected) in [
        ("Operation", "load-model"),
        ("Model", "fake"),
        ("State", "running"),
    ] {
        let value = properties[name].downcast_ref::<String>().unwrap();
        assert_eq!(value, expected, "{name}");
    }
    assert!(properties["Created"].downcast_ref::<u64>().unwrap() > 1_700_000_000);
    // What only requests have is absent, as is the progress of an engine that reports none.
    for name in ["Priority", "QueuePosition", "TokensGenerated", "Progress"] {
        assert!(!properties.contains_key(name), "{name}");
    }
    assert_eq!(bus.result(&job).await.unwrap()["model"], "fake");
    assert_eq!(world.daemon.status().state, State::Ready);
    let done = bus.properties(&job, JOB).await;
    assert!(done["Progress"].downcast_ref::<f64>().unwrap() > 0.999);
    let refused = bus.call::<()>(&job, JOB, "SetPriority", &("normal",)).await;
    assert_eq!(refused.unwrap_err().kind, Some(FailureKind::InvalidArgs));
    let unknown = bus
        .refused("StartLoadModel", &("nope", Options::new()))
        .await;
    assert_eq!(unknown.kind, Some(FailureKind::ModelNotFound));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_load_ends_unless_others_wait_for_it() {
    let world = World::new(Script::load_ms(5000)).await;
    let bus = world.bus().await;
    let job = start_load(&bus, "fake").await;
    sleep(Duration::from_millis(100)).await;
    bus.cancel(&job).await;
    let failure = bus.result(&job).await.unwrap_err();
    assert_eq!(failure.kind, Some(FailureKind::Cancelled));
    world.until_state(State::Unloaded).await;
    // A request waits for the same model: its load goes on.
    let job = start_load(&bus, "fake").await;
    let (said, ()) = tokio::join!(world.say("x"), async {
        sleep(Duration::from_millis(100)).await;
        bus.cancel(&job).await;
    });
    assert_eq!(said.unwrap(), "x");
    assert_eq!(world.engine.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_measurement_is_a_job_whose_result_is_that_of_the_list() {
    let script = Script {
        prefill_time: Duration::from_millis(2),
        ..Script::token_ms(20)
    };
    let world = World::on_board(40, "[engine]\nthreads = 2\n", script).await;
    let bus = world.bus().await;
    let job = start_measure(&bus).await;
    let shares = RefCell::new(Vec::new());
    until_async("it is measured", async || {
        let properties = bus.properties(&job, JOB).await;
        let share = properties.get("Progress");
        let share = share.map(|share| share.downcast_ref::<f64>().unwrap());
        shares.borrow_mut().extend(share);
        share == Some(1.0)
    })
    .await;
    let shares = shares.into_inner();
    let is_between = |share: &f64| (0.1..0.95).contains(share);
    assert!(shares.iter().any(is_between), "{shares:?}");
    let measured = bus.result(&job).await.unwrap();
    assert_eq!(
        (measured["model"].as_str(), measured["runs"].as_u64()),
        (Some("fake"), Some(3))
    );
    assert_eq!(measured["decode"].as_array().unwrap().len(), 2);
    // A cancelled one leaves the board as it was.
    let job = start_measure(&bus).await;
    until_async("it measures", async || {
        world.daemon.tuner.progress().is_some()
    })
    .await;
    bus.cancel(&job).await;
    assert!(bus.result(&job).await.is_err());
    assert_eq!(world.daemon.tuner.progress(), None);
    assert_eq!(world.daemon.tuner.list().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_inhibitor_that_ends_early_is_reported_to_its_owner() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let mut signals = bus.listen().await;
    let mut cookies = Vec::new();
    for reason in ["voice", "clock"] {
        let cookie: u32 = bus
            .manager("KeepLoaded", &(reason, Options::new()))
            .await
            .unwrap();
        cookies.push(cookie);
    }
    let released: Result<(), _> = bus.manager("ReleaseKeepLoaded", &(cookies[0],)).await;
    released.unwrap();
    world.daemon.pool.unload(&caller(), None).await.unwrap();
    let ended = signals.next("KeepLoadedEnded").await;
    let (cookie,): (u32,) = ended.body().deserialize().unwrap();
    assert_eq!(
        cookie, cookies[1],
        "the released one ended with its release"
    );
    assert_eq!(world.daemon.pool.holds("fake"), []);
    let gone = bus.refused("ReleaseKeepLoaded", &(cookie,)).await;
    assert_eq!(gone.kind, Some(FailureKind::InvalidArgs));
}

#[tokio::test(start_paused = true)]
async fn properties_without_a_value_are_absent() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let has = async |name: &str| bus.properties(PATH, NAME).await.contains_key(name);
    assert!(!has("ContextSize").await && !has("TokensPerSecond").await);
    let model = format!("{PATH}/models/fake");
    let interface = format!("{NAME}.Model");
    assert!(
        !bus.properties(&model, &interface)
            .await
            .contains_key("LastUse")
    );
    world.say("hello").await.unwrap();
    assert!(has("ContextSize").await);
    assert!(
        bus.properties(&model, &interface)
            .await
            .contains_key("LastUse")
    );
    let unload: Result<(), _> = bus.manager("UnloadModels", &(Options::new(),)).await;
    unload.unwrap();
    assert!(!has("ContextSize").await);
}

#[tokio::test(start_paused = true)]
async fn a_user_has_so_many_long_calls_at_once() {
    let world = World::new(Script::load_ms(60_000)).await;
    let bus = world.bus().await;
    let mut jobs = Vec::new();
    for _ in 0..16 {
        jobs.push(start_load(&bus, "fake").await);
    }
    let refused = bus
        .refused("StartLoadModel", &("fake", Options::new()))
        .await;
    assert_eq!(refused.kind, Some(FailureKind::QuotaExceeded));
    bus.cancel(&jobs[3]).await;
    assert!(bus.result(&jobs[3]).await.is_err());
    start_load(&bus, "fake").await;
}

#[tokio::test(start_paused = true)]
async fn a_long_load_holds_up_no_other_call() {
    let world = World::new(Script::load_ms(60_000)).await;
    let bus = world.bus().await;
    let model = format!("{PATH}/models/fake");
    let interface = format!("{NAME}.Model");
    let args = (Options::new(),);
    let load = bus.call::<()>(&model, &interface, "Load", &args);
    let others = async {
        // Changes of the model are announced meanwhile.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bus.text(&model, &interface, "State").await, "loading");
        let manager = "org.freedesktop.DBus.ObjectManager";
        let objects: Objects = bus
            .call(PATH, manager, "GetManagedObjects", &())
            .await
            .unwrap();
        assert!(!objects.is_empty());
        start_load(&bus, "fake").await;
        let unload: Result<(), _> = bus.call(&model, &interface, "Unload", &args).await;
        unload.unwrap();
    };
    let (loaded, ()) = tokio::join!(load, others);
    assert_eq!(loaded.unwrap_err().kind, Some(FailureKind::Busy));
}

#[tokio::test(start_paused = true)]
async fn ended_jobs_of_a_user_are_bounded() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    for _ in 0..300 {
        let job = start_load(&bus, "fake").await;
        bus.result(&job).await.unwrap();
    }
    assert_eq!(world.daemon.jobs.list().len(), 256);
}

#[tokio::test(start_paused = true)]
async fn what_everyone_sees_is_checked_first() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let long = "x".repeat(300);
    let refused = bus.refused("KeepLoaded", &(&long, Options::new())).await;
    assert_eq!(refused.kind, Some(FailureKind::InvalidArgs));
    let file = tempfile::tempfile().unwrap();
    let file = zbus::Fd::from(std::os::fd::OwnedFd::from(file));
    let args = (&long, file, Options::new());
    let refused = bus
        .refused_by(MODEL_STORE_INTERFACE, "StartImport", &args)
        .await;
    assert_eq!(refused.kind, Some(FailureKind::InvalidArgs));
    assert_eq!(world.daemon.jobs.list(), []);
}
