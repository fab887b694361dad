//! Which stop string ended an answer.

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
