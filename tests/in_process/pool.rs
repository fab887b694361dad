//! The engine pool: loading, unloading, replacement and restart.

use std::time::Duration;

use hearth_policy::holds::{Client, Keep};
use hearth_proto::{Failure, FailureKind, KeepAlive, ModelRef};
use hearth_testing::{LoadFault, Script};
use hearthd::caller::Caller;
use hearthd::daemon::State;
use tokio::time::{Instant, sleep, timeout};

use crate::bus::Options;
use crate::harness::{MODEL, PATIENCE, World, caller, patient, until};

fn model(name: &str) -> ModelRef {
    ModelRef::named(name)
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A caller with a keep-alive of its own.
fn keeping(agent: &str, time: Duration) -> Caller {
    let client = Client {
        uid: 1000,
        pid: 0,
        agent: agent.to_owned(),
    };
    let time = KeepAlive::For(time);
    Caller {
        keep: Some(Keep { client, time }),
        ..caller()
    }
}

/// Loads the model, or releases it if the caller's keep-alive is zero.
async fn release(world: &World, caller: &Caller) -> Result<bool, Failure> {
    let model = model(MODEL);
    let dispatcher = &world.daemon.dispatcher;
    dispatcher.load_or_release(caller, &model).await
}

#[tokio::test(start_paused = true)]
async fn an_idle_model_is_unloaded() {
    let world = World::with("[engine]\nidle_unload_s = 60\n", Script::default()).await;
    world.say("x").await.unwrap();
    let began = Instant::now();
    sleep(seconds(55)).await;
    assert_eq!(world.daemon.status().state, State::Ready);
    world.until_state(State::Unloaded).await;
    // The heartbeat of an idle engine is every five seconds.
    assert!((60..=70).contains(&began.elapsed().as_secs()));
    assert_eq!(world.daemon.status().engine_crashes, 0);
    until("the engine ends", || world.engine.running() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn each_use_restarts_the_idle_time() {
    let world = World::with("[engine]\nidle_unload_s = 60\n", Script::default()).await;
    for _ in 0..5 {
        world.say("x").await.unwrap();
        sleep(seconds(50)).await;
    }
    assert_eq!(world.engine.started(), 1);
    sleep(seconds(30)).await;
    assert_eq!(world.daemon.status().state, State::Unloaded);
}

#[tokio::test(start_paused = true)]
async fn an_inhibitor_keeps_a_model_and_only_its_owner_releases_it() {
    let world = World::with("[engine]\nidle_unload_s = 1\n", Script::default()).await;
    let (daemon, bus) = (&world.daemon, world.bus().await);
    let cookie: u32 = bus
        .manager("KeepLoaded", &("voice", Options::new()))
        .await
        .unwrap();
    sleep(seconds(3600)).await;
    assert_eq!(daemon.status().state, State::Ready);
    let wrong = bus.refused("ReleaseKeepLoaded", &(cookie + 1,)).await;
    assert_eq!(wrong.kind, Some(FailureKind::InvalidArgs));
    assert!(!daemon.pool.release(&caller(), cookie));
    // A keep-alive of zero does not end it either.
    let over = keeping("a", Duration::ZERO);
    assert_eq!(release(&world, &over).await, Ok(false));
    assert_eq!(daemon.status().state, State::Ready);
    let released: Result<(), _> = bus.manager("ReleaseKeepLoaded", &(cookie,)).await;
    released.unwrap();
    world.until_state(State::Unloaded).await;
}

#[tokio::test(start_paused = true)]
async fn the_longest_keep_alive_counts() {
    let world = World::with("[engine]\nidle_unload_s = 10\n", Script::default()).await;
    for (agent, time) in [("one", 100), ("two", 30)] {
        let caller = keeping(agent, seconds(time));
        assert_eq!(release(&world, &caller).await, Ok(true));
    }
    // Whose keep-alive is zero gives up its own only.
    let over = keeping("two", Duration::ZERO);
    assert_eq!(release(&world, &over).await, Ok(false));
    let stays = world.daemon.pool.stays(MODEL).unwrap();
    assert!((95..=100).contains(&stays.as_secs()), "{stays:?}");
    sleep(seconds(90)).await;
    assert_eq!(world.daemon.status().state, State::Ready);
    let over = keeping("one", Duration::ZERO);
    assert_eq!(release(&world, &over).await, Ok(false));
    world.until_state(State::Unloaded).await;
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_of_zero_waits_for_other_callers() {
    let world = World::new(Script::token_ms(100)).await;
    let running = world.submit("a long answer").await.unwrap();
    world.until_running(1).await;
    let over = keeping("one", Duration::ZERO);
    assert_eq!(release(&world, &over).await, Ok(false));
    assert_eq!(running.collect().await.unwrap().content, "a long answer");
    assert_eq!(world.daemon.status().state, State::Ready);
    assert_eq!(world.engine.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_running_answer_is_finished_before_its_model_is_replaced() {
    let config = "[model]\ndefault = \"fake\"\n[engine]\nmodels_max = 1\n";
    let world = World::with(config, Script::token_ms(100)).await;
    world.folder.add_model("other").unwrap();
    let text = "word ".repeat(20);
    let running = world.submit(&text).await.unwrap();
    world.until_running(1).await;
    let (caller, other) = (caller(), model("other"));
    let (answer, loaded) = tokio::join!(running.collect(), world.daemon.pool.load(&caller, &other));
    assert_eq!(answer.unwrap().content, text);
    assert_eq!(loaded, Ok(()));
    assert_eq!(world.daemon.status().model, "other");
    assert_eq!(world.loads(), [MODEL, "other"]);
    assert_eq!(world.daemon.status().engine_crashes, 0);
}

#[tokio::test(start_paused = true)]
async fn two_models_are_loaded_at_once() {
    let world = World::new(Script::load_ms(1000)).await;
    world.folder.add_model("other").unwrap();
    let pool = &world.daemon.pool;
    let (caller, first, second) = (caller(), model(MODEL), model("other"));
    let later = async {
        sleep(Duration::from_millis(500)).await;
        pool.load(&caller, &second).await
    };
    let began = Instant::now();
    let (first, second) = tokio::join!(pool.load(&caller, &first), later);
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(began.elapsed(), Duration::from_millis(1500));
    assert_eq!(world.engine.running(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_one_load_is_not_that_of_another() {
    let world = World::new(Script::default()).await;
    world.folder.add_model("other").unwrap();
    let pool = &world.daemon.pool;
    let fails = Script {
        load_time: seconds(1),
        ..Script::refuses(FailureKind::ModelInvalid)
    };
    world.engine.set(fails);
    let (caller, first, second) = (caller(), model(MODEL), model("other"));
    let later = async {
        // At the moment at which the first one fails.
        sleep(seconds(1)).await;
        world.engine.set(Script::default());
        pool.load(&caller, &second).await
    };
    let (first, second) = tokio::join!(pool.load(&caller, &first), later);
    let kind = first.unwrap_err().kind;
    assert!(matches!(
        kind,
        FailureKind::ModelInvalid | FailureKind::Busy
    ));
    assert_eq!(second, Ok(()));
    assert_eq!(world.daemon.status().model, "other");
}

#[tokio::test(start_paused = true)]
async fn an_unload_ends_a_load_and_its_callers_get_an_error() {
    let world = World::new(Script::load_ms(10_000)).await;
    let pool = &world.daemon.pool;
    let caller = caller();
    let unload = async {
        world.until_state(State::Loading).await;
        pool.unload(&caller, None).await
    };
    let wanted = model(MODEL);
    let both = async { tokio::join!(pool.load(&caller, &wanted), unload) };
    let (loaded, unloaded) = patient("both end", both).await;
    assert_eq!(unloaded, Ok(()));
    assert_eq!(loaded.unwrap_err().kind, FailureKind::Busy);
    assert_eq!(world.daemon.status().state, State::Unloaded);
    assert_eq!(world.engine.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unloading_model_accepts_no_more_requests() {
    let world = World::new(Script {
        end_time: seconds(1),
        ..Script::token_ms(100)
    })
    .await;
    let running = world.submit(&"word ".repeat(100)).await.unwrap();
    world.until_running(1).await;
    let caller = caller();
    let unload = world.daemon.pool.unload(&caller, None);
    let later = async {
        // While the engine ends.
        sleep(Duration::from_millis(500)).await;
        world.say("later").await
    };
    let (cancelled, unloaded, later) = tokio::join!(running.collect(), unload, later);
    assert_eq!(cancelled.unwrap_err().kind, FailureKind::Cancelled);
    assert_eq!(unloaded, Ok(()));
    assert_eq!(later.unwrap(), "later");
    assert_eq!(world.engine.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_crashes_while_loading_is_tried_three_times() {
    let world = World::new(Script::fault(LoadFault::Crashes)).await;
    let began = Instant::now();
    let loaded = world.daemon.pool.load(&caller(), &model(MODEL)).await;
    assert_eq!(loaded.unwrap_err().kind, FailureKind::ModelInvalid);
    assert_eq!(world.engine.started(), 3);
    // 200 ms and 400 ms.
    assert!((600..1000).contains(&began.elapsed().as_millis()));
    assert_eq!(world.daemon.status().state, State::Failed);
    assert_eq!(world.daemon.status().engine_crashes, 3);
    // The next request tries again.
    world.engine.set(Script::default());
    assert_eq!(world.say("again").await.unwrap(), "again");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_model_is_tried_once() {
    for kind in [
        FailureKind::ModelInvalid,
        FailureKind::OutOfMemory,
        FailureKind::ModelNotFound,
    ] {
        let world = World::new(Script::refuses(kind)).await;
        assert_eq!(world.say("x").await.unwrap_err().kind, kind);
        assert_eq!(world.engine.started(), 1);
        assert_eq!(world.daemon.status().state, State::Failed);
        assert_eq!(world.daemon.status().engine_crashes, 0);
        sleep(seconds(60)).await;
        assert_eq!(world.engine.started(), 1, "nobody waits for it");
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_of_another_version_is_not_used() {
    let world = World::new(Script::fault(LoadFault::OtherVersion)).await;
    assert_eq!(
        world.say("x").await.unwrap_err().kind,
        FailureKind::Internal
    );
    assert_eq!(world.engine.started(), 1);
}

/// A request ends after three engines.
async fn given_up(world: &World) {
    let said = timeout(PATIENCE, world.say("x")).await;
    let failure = said.expect("it ends").unwrap_err();
    assert_eq!(failure.kind, FailureKind::ModelInvalid);
    assert_eq!(world.engine.started(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_engine_without_a_greeting_is_ended() {
    let world = World::new(Script::fault(LoadFault::NoHello)).await;
    given_up(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_is_ended() {
    let config = "[engine]\nload_timeout_s = 30\n";
    let world = World::with(config, Script::fault(LoadFault::Hangs)).await;
    given_up(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_engine_is_replaced_and_a_slow_one_is_not() {
    let config = "[engine]\nhang_timeout_s = 10\n";
    let slow = World::with(config, Script::token_ms(15_000)).await;
    assert_eq!(slow.say("slow").await.unwrap(), "slow");
    assert_eq!(slow.engine.started(), 1);
    let world = World::with(config, Script::default()).await;
    let said = world.say("a !hang").await;
    assert_eq!(said.unwrap_err().kind, FailureKind::EngineCrashed);
    assert_eq!(world.engine.started(), 2);
    assert_eq!(world.say("after").await.unwrap(), "after");
}

#[tokio::test(start_paused = true)]
async fn the_supervisor_advances_while_an_engine_works() {
    let world = World::new(Script::token_ms(20_000)).await;
    let pool = &world.daemon.pool;
    let running = world.submit("abc").await.unwrap();
    for _ in 0..50 {
        sleep(seconds(1)).await;
        assert!(pool.is_advancing());
    }
    running.collect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_after_an_unload_waits_for_the_next_engine() {
    let world = World::new(Script::default()).await;
    world.say("first").await.unwrap();
    let caller = caller();
    let (unloaded, answered) = tokio::join!(world.daemon.pool.unload(&caller, None), async {
        world.submit("next").await.unwrap().collect().await
    });
    unloaded.unwrap();
    assert_eq!(answered.unwrap().content, "next");
    assert_eq!(world.engine.started(), 2);
}
