//! What ends an answer: stop strings, and the bound on its time.

use hearth_proto::{Command, Event, FinishReason, GenerateRequest};

use crate::fake;
use crate::harness::chat;

#[test]
fn the_stop_string_that_ended_an_answer_is_reported() {
    let mut engine = fake("");
    for (id, text, reported) in [
        (1, "say hello world", Some("lo")),
        // The first in the text counts, not the first in the list.
        (2, "wow", Some("w")),
        (3, "nothing", None),
    ] {
        engine.send(&Command::Generate(GenerateRequest {
            stop: vec!["lo".into(), "w".into()],
            ..chat(id, text)
        }));
        let end = engine.until(|event| matches!(event, Event::Finished { .. }));
        let Event::Finished {
            reason,
            stop_string,
            ..
        } = end
        else {
            panic!("{end:?}")
        };
        assert_eq!(stop_string.as_deref(), reported, "{text}");
        assert_eq!(reason, FinishReason::Stop);
    }
}

#[test]
fn the_bound_on_the_time_lets_a_first_line_be_finished() {
    let mut engine = fake("token-ms=5");
    let text = "a\n".to_owned() + &"word ".repeat(200);
    let late = "word ".repeat(20) + "\nmore";
    for (id, text, most_ms, expected) in [
        (1, text.as_str(), Some(1), "a\n"),
        (
            2,
            late.as_str(),
            Some(1),
            late.strip_suffix("more").unwrap(),
        ),
        (3, late.as_str(), Some(60_000), late.as_str()),
        (4, late.as_str(), None, late.as_str()),
    ] {
        let answer = engine.ask(GenerateRequest {
            predict_ms: most_ms,
            ..chat(id, text)
        });
        let is_whole = answer.text == expected && text == expected;
        let reason = [FinishReason::Length, FinishReason::Stop][usize::from(is_whole)];
        assert_eq!((answer.text.as_str(), answer.reason()), (expected, reason));
    }
}
