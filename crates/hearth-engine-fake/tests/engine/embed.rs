//! Embeddings beside an answer.

use hearth_proto::{Command, Event, RequestId};

use crate::fake;
use crate::harness::chat;

#[test]
fn answers_go_on_between_two_texts() {
    let mut engine = fake("token-ms=1");
    engine.send(&Command::Generate(chat(1, &"word ".repeat(40))));
    engine.until(|e| matches!(e, Event::Token { .. }));
    for id in 10..20 {
        engine.send(&Command::Embed {
            id: RequestId(id),
            input: "a".into(),
            truncate: false,
        });
    }
    let mut vectors = 0;
    let mut tokens_between = 0;
    while vectors < 10 {
        match engine.next() {
            Event::Embedded { .. } => vectors += 1,
            Event::Token { .. } => tokens_between += u32::from(vectors > 0),
            other => panic!("{other:?}"),
        }
    }
    assert!(tokens_between >= 8, "{tokens_between}");
    engine.collect(1);
}
