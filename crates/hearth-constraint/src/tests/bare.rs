//! Calls at the beginning of an answer, without the marks of the template.

use serde_json::json;

use super::calls::{assert_call, lenient, matcher};
use super::{lossy, run, vocabulary};
use crate::{Beginning, bare_calls, beginning};

#[test]
fn an_answer_that_begins_with_json_is_a_call_where_it_may() {
    for special in [false, true] {
        let (vocabulary, pieces) = vocabulary(special);
        for begun in ["{\"", "```json\n{\"", "```\n{\"", " {\""] {
            let mut matcher = matcher(&vocabulary, lenient());
            for byte in begun.bytes() {
                let mut logits = vec![0.0; pieces.len()];
                matcher.mask(&mut logits).unwrap();
                let token = usize::from(byte);
                assert!(logits[token].is_finite(), "{begun}: {byte}");
                matcher.accept(i32::from(byte)).unwrap();
            }
            for seed in 0..8 {
                let run = run(&mut matcher.clone(), &pieces, seed, true, 4000);
                let text = format!("{{\"{}", lossy(&run.text));
                assert!(run.complete, "{begun}: {text}");
                let read = bare_calls(&text);
                assert!(!read.is_empty(), "{text}");
                for call in read {
                    assert_call(&json!({"name": call.name, "arguments": call.arguments}));
                }
            }
        }
    }
}

#[test]
fn the_beginning_of_an_answer_is_classified() {
    for (text, expected) in [
        ("", Beginning::Open),
        (" \n", Beginning::Open),
        ("``", Beginning::Open),
        ("```js", Beginning::Open),
        ("```json", Beginning::Open),
        ("```json\n", Beginning::Open),
        ("{", Beginning::Call(b"{")),
        ("```json\n{\"a", Beginning::Call(b"{\"a")),
        ("```\n{", Beginning::Call(b"{")),
        ("It is on.", Beginning::Text),
        ("```python\n", Beginning::Text),
        ("[1]", Beginning::Text),
    ] {
        assert_eq!(beginning(text.as_bytes()), expected, "{text:?}");
    }
}
