//! The limits that the daemon sets.

use std::time::{Duration, Instant};

use hearth_proto::units::Permille;
use hearth_proto::{Command, Event, FailureKind, Limits};

use crate::harness::chat;
use crate::{cancel, fake};

#[test]
fn a_paused_engine_waits_without_cpu_and_goes_on() {
    let mut engine = fake("token-ms=2,repeat=100");
    engine.send(&Command::Generate(chat(1, "pause me")));
    engine.until(|e| matches!(e, Event::Token { generated: 3, .. }));
    engine.send(&Command::SetLimits(Limits {
        paused: true,
        ..Limits::default()
    }));
    std::thread::sleep(Duration::from_millis(200));
    let before = engine.cpu_seconds();
    std::thread::sleep(Duration::from_secs(1));
    assert!(engine.cpu_seconds() - before < 0.02);
    // A paused engine is not busy: the daemon's watchdog must not consider it hung.
    engine.send(&Command::Ping { seq: 1 });
    let pong = engine.until(|e| matches!(e, Event::Pong { .. }));
    assert!(matches!(pong, Event::Pong { busy: false, .. }));
    engine.send(&Command::Generate(chat(2, "later")));
    engine.send(&cancel(1));
    assert_eq!(engine.collect(1).failure().kind, FailureKind::Cancelled);
    engine.send(&Command::SetLimits(Limits::default()));
    assert!(engine.collect(2).text.starts_with("laterlater"));
}

#[test]
fn duty_stretches_the_work() {
    let mut engine = fake("token-ms=5");
    let mut took = |duty| {
        engine.send(&Command::SetLimits(Limits {
            duty: Permille(duty),
            ..Limits::default()
        }));
        let began = Instant::now();
        engine.ask(chat(u64::from(duty), "twenty letters in it"));
        began.elapsed()
    };
    let (full, quarter) = (took(1000), took(250));
    assert!(quarter > full * 5 / 2, "{full:?} {quarter:?}");
}

#[test]
fn a_rest_ends_with_a_cancel() {
    let mut engine = fake("token-ms=200");
    engine.send(&Command::SetLimits(Limits {
        duty: Permille(2),
        ..Limits::default()
    }));
    engine.send(&Command::Generate(chat(1, "resting")));
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    engine.send(&cancel(1));
    assert_eq!(engine.collect(1).failure().kind, FailureKind::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(1));
}
