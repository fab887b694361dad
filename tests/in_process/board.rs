//! The board monitor, and what its decisions do to requests and engines.

use std::time::Duration;

use hearth_proto::{Command, FailureKind};
use hearth_testing::Script;
use hearthd::daemon::State;
use serde_json::json;
use tokio::time::sleep;

use crate::harness::{World, counted, until};
use crate::http::{CHAT, body};

async fn until_memory(world: &World, state: &str) {
    until(state, || world.daemon.status().memory_state == state).await;
}

/// A daemon that could run four requests if it had more memory.
async fn short_of_memory() -> World {
    let world = World::with("[engine]\nslots = 4\n", Script::token_ms(100)).await;
    world.folder.board().set_available(11).unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn sensors_are_not_read_while_the_board_is_cool_and_no_engine_runs() {
    let world = World::on_board(40, "", Script::default()).await;
    let board = world.folder.board();
    let mut changes = world.daemon.board.subscribe();
    changes.mark_unchanged();
    board.set_celsius(45).unwrap();
    sleep(Duration::from_mins(10)).await;
    assert!(!changes.has_changed().unwrap());
    // Whoever asks gets a reading.
    let status = world.daemon.board.recent().await;
    assert!((status.temperature_celsius().unwrap() - 45.0).abs() < 0.01);
    assert!(changes.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn sensors_are_read_regularly_while_an_engine_runs() {
    let world = World::on_board(40, "", Script::default()).await;
    let board = world.folder.board();
    world.say("x").await.unwrap();
    let mut changes = world.daemon.board.subscribe();
    changes.mark_unchanged();
    board.set_celsius(45).unwrap();
    sleep(Duration::from_secs(6)).await;
    assert!(changes.has_changed().unwrap());
    assert!((world.daemon.status().temperature_celsius.unwrap() - 45.0).abs() < 0.01);
}

#[tokio::test(start_paused = true)]
async fn readings_are_shared_by_concurrent_callers() {
    let world = World::on_board(40, "", Script::default()).await;
    world.folder.board().set_celsius(50).unwrap();
    let board = &world.daemon.board;
    let readings = (0..20).map(|_| board.read());
    for status in futures_util::future::join_all(readings).await {
        assert!((status.temperature_celsius().unwrap() - 50.0).abs() < 0.01);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hot_board_limits_the_engine_and_then_refuses_requests() {
    let config = "[engine]\nthreads = 4\n";
    let world = World::on_board(40, config, Script::token_ms(1000)).await;
    let board = world.folder.board();
    let running = world.submit(&counted(100)).await.unwrap();
    world.until_running(1).await;
    board.set_celsius(79).unwrap();
    let limits = || {
        world.engine.picked(|command| match command {
            Command::SetLimits(limits) => Some(*limits),
            _ => None,
        })
    };
    until("the engine is limited", || !limits().is_empty()).await;
    board.set_celsius(110).unwrap();
    until("the engine is paused", || {
        limits().last().is_some_and(|l| l.paused || l.duty.0 == 0)
    })
    .await;
    assert_eq!(world.daemon.status().thermal_state, "emergency");
    let refused = world.post(CHAT, &body("Hello?")).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "overheated")
    );
    assert_ne!(refused.header("retry-after"), "");
    assert_ne!(world.daemon.status().limit_reason, "");
    assert!((world.metric("hearthd_limited{cause=\"emergency\"}").await - 1.0).abs() < 1e-9);
    assert!(world.metric("hearthd_duty_ratio").await.abs() < 1e-9);
    // Both decisions are remembered.
    assert!(world.daemon.board.decisions().len() >= 2);
    // The answer that had begun goes on once the board has cooled down.
    board.set_celsius(40).unwrap();
    assert_eq!(running.collect().await.unwrap().content, counted(100));
}

#[tokio::test(start_paused = true)]
async fn critical_memory_allows_one_request_and_an_emergency_none() {
    let world = short_of_memory().await;
    let long = "long ".repeat(500);
    let first = world.submit(&long).await.unwrap();
    until_memory(&world, "critical").await;
    let second = world.submit(&long).await.unwrap();
    world.until_running(1).await;
    world.until_queued(1).await;
    world.folder.board().set_available(5).unwrap();
    until_memory(&world, "emergency").await;
    for stream in [first, second] {
        let failure = stream.collect().await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::OutOfMemory);
    }
    world.until_state(State::Unloaded).await;
    until("the engine ends", || world.engine.running() == 0).await;
    let refused = world.post(CHAT, &body("Hello?")).await;
    assert_eq!(refused.header("retry-after"), "60");
    assert_eq!(refused.code(), "out_of_memory");
    assert_eq!(world.daemon.status().engine_crashes, 0);
}

#[tokio::test(start_paused = true)]
async fn limits_for_short_memory_are_lifted_one_state_at_a_time() {
    let world = short_of_memory().await;
    let text = "long ".repeat(100);
    let running = world.submit(&text).await.unwrap();
    until_memory(&world, "critical").await;
    world.folder.board().set_available(60).unwrap();
    for (state, next) in [("critical", "moderate"), ("moderate", "normal")] {
        sleep(Duration::from_secs(50)).await;
        assert_eq!(
            world.daemon.status().memory_state,
            state,
            "one state a minute"
        );
        until_memory(&world, next).await;
    }
    // The request that ran meanwhile has its complete answer.
    assert_eq!(running.collect().await.unwrap().content, text);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(world.submit(&text).await.unwrap());
    }
    world.until_running(3).await;
}

#[tokio::test(start_paused = true)]
async fn short_memory_releases_cached_prompts_before_requests() {
    let world = World::with("[engine]\nslots = 4\n", Script::token_ms(100)).await;
    let board = world.folder.board();
    board.set_available(60).unwrap();
    let running = world.submit(&counted(20)).await.unwrap();
    world.until_running(1).await;
    let shrunk = || {
        let commands = world
            .engine
            .picked(|c| matches!(c, Command::Shrink).then_some(()));
        commands.len()
    };
    assert_eq!(shrunk(), 0);
    board.set_available(14).unwrap();
    until("the engine is told", || shrunk() == 1).await;
    assert_eq!(world.daemon.status().memory_state, "moderate");
    assert_eq!(running.collect().await.unwrap().content, counted(20));
}

#[tokio::test(start_paused = true)]
async fn a_memory_pressure_event_of_systemd_is_handled() {
    let world = World::new(Script::default()).await;
    world.folder.board().set_available(60).unwrap();
    world.say("x").await.unwrap();
    world.daemon.board.warn_of_memory();
    until_memory(&world, "moderate").await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_lists_the_files_of_the_sensors() {
    let world = World::on_board(40, "", Script::default()).await;
    let sources = world.daemon.board.sources().await;
    assert!(
        sources.iter().any(|s| s.contains("thermal_zone0")),
        "{sources:?}"
    );
    let health = world.health().await;
    assert_eq!(health["thermal_state"], json!("cool"));
}
