//! Prompts computed ahead of time.

use std::time::Duration;

use hearth_proto::FailureKind;
use hearth_testing::Script;
use hearthd::daemon::State;
use tokio::time::{Instant, sleep};

use crate::bus::Options;
use crate::harness::{World, caller, until_async};

const FINISHED: &str = "origin=\"config\",outcome=\"finished\"}";

fn slow_prompts() -> Script {
    Script {
        prefill_time: Duration::from_millis(20),
        ..Script::default()
    }
}

/// With one slot and one place in the queue, prewarming may use neither.
#[tokio::test(start_paused = true)]
async fn configured_prompts_do_not_delay_requests() {
    let system = "half a minute for the fake engine ".repeat(45);
    let config =
        format!("[queue]\nlength_max = 1\n[engine]\nslots = 1\n[[prewarm]]\nsystem = {system:?}\n");
    let world = World::with(&config, slow_prompts()).await;
    world.say("a").await.unwrap();
    world.until_running(1).await;
    let began = Instant::now();
    assert_eq!(world.say("b").await.unwrap(), "b");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(!world.metrics().await.contains(FINISHED));
    world.daemon.pool.unload(&caller(), None).await.unwrap();
    // The daemon's own prompts do not load the model again.
    sleep(Duration::from_mins(1)).await;
    assert_eq!(world.daemon.status().state, State::Unloaded);
}

#[tokio::test(start_paused = true)]
async fn configured_prompts_are_computed_for_all_users_after_each_load() {
    let config = "[model]\npreload = true\n[[prewarm]]\nsystem = \"Be brief.\"\n\
        [[prewarm]]\nmodel = \"another\"\nsystem = \"x\"\n";
    let world = World::with(config, Script::default()).await;
    for loads in 1..3 {
        until_async("it is computed", async || {
            world
                .metrics()
                .await
                .contains(&format!("{FINISHED} {loads}\n"))
        })
        .await;
        let request = world.requests().pop().unwrap();
        assert!(request.prewarm);
        assert_eq!(request.uid, None, "shared by all");
        assert_eq!(world.requests().len(), loads);
        world.daemon.pool.unload(&caller(), None).await.unwrap();
        assert_eq!(world.daemon.status().state, State::Unloaded);
        let model = hearth_proto::ModelRef::Default;
        world.daemon.pool.load(&caller(), &model).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn invalid_arguments_are_reported() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    for (system, option, value, kind) in [
        ("x", "tools", "[".into(), FailureKind::InvalidArgs),
        ("x", "messages", "{}".into(), FailureKind::InvalidArgs),
        ("x", "tools", 3_u32.into(), FailureKind::InvalidArgs),
        ("x", "model", "nope".into(), FailureKind::ModelNotFound),
        ("x", "mode", "x".into(), FailureKind::InvalidArgs),
        (" ", "tools", "[]".into(), FailureKind::InvalidArgs),
    ] {
        let options = Options::from([(option, value)]);
        let refused = bus.refused("Prewarm", &(system, options)).await;
        assert_eq!(refused.kind, Some(kind), "{option}: {refused:?}");
    }
    assert_eq!(world.engine.started(), 0);
}
