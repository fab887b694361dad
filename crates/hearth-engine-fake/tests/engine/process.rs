//! How the process ends, and that it answers while it computes.

use std::time::{Duration, Instant};

use hearth_proto::{Command, Event};

use crate::fake;
use crate::harness::chat;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_ping_is_answered_while_a_decode_takes_long() {
    let mut engine = fake("token-ms=3000");
    engine.send(&Command::Generate(chat(1, "slow")));
    engine.until(|e| matches!(e, Event::Token { generated: 1, .. }));
    let mut seen = Vec::new();
    for seq in 0..3 {
        let began = Instant::now();
        engine.send(&Command::Ping { seq });
        let pong = engine.until(|e| matches!(e, Event::Pong { .. }));
        assert!(began.elapsed() < Duration::from_secs(1));
        let Event::Pong {
            seq: echoed,
            ticks,
            busy,
        } = pong
        else {
            unreachable!()
        };
        assert_eq!((echoed, busy), (seq, true));
        seen.push(ticks);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

#[test]
fn it_ends_with_the_socket_even_in_a_hang() {
    for text in ["idle", "!hang", "!slow and steady wins the race"] {
        let mut engine = fake("");
        if text != "idle" {
            engine.send(&Command::Generate(chat(1, text)));
            engine.until(|e| matches!(e, Event::Started { .. }));
        }
        let began = Instant::now();
        engine.hang_up();
        assert_eq!(engine.wait(SOON).code(), Some(0), "{text}");
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn shutdown_ends_it_cleanly_also_in_mid_decode() {
    let mut engine = fake("token-ms=60000");
    engine.send(&Command::Generate(chat(1, "long")));
    engine.until(|e| matches!(e, Event::Token { generated: 1, .. }));
    engine.send(&Command::Shutdown);
    assert_eq!(engine.wait(SOON).code(), Some(0));
}

#[test]
fn an_abort_is_seen_as_the_end_of_the_socket() {
    let mut engine = fake("");
    engine.send(&Command::Generate(chat(1, "ok !abort")));
    let end = loop {
        match engine.try_next() {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(end, Ok(None) | Err(_)));
    assert_eq!(engine.wait(SOON).code(), None);
}
