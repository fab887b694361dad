//! A request without reuse is computed without it, and a reproducible answer is the same
//! to the last bit, whatever was computed before.

use hearth_proto::{Command, Event, GenerateRequest, RequestId, Reuse};

use super::cold::first_of;
use super::{plain, start, synthetic};
use crate::harness::text_of;

#[test]
fn nothing_is_reused_or_kept_where_it_is_not_wanted() {
    let case = synthetic("full");
    let mut engine = start(&case.load);
    let denied = GenerateRequest {
        reuse: Reuse::Denied,
        ..case.prompt(0, "What is on?")
    };
    assert_eq!(first_of(&mut engine, 1, &denied).cached, 0);
    let asked = case.prompt(0, "What is on?");
    assert_eq!(first_of(&mut engine, 2, &asked).cached, 0);
    assert!(first_of(&mut engine, 3, &asked).cached > 0);
    assert_eq!(first_of(&mut engine, 4, &denied).cached, 0);
    std::fs::remove_file(case.path).unwrap();
}

#[test]
fn reproducible_answers_are_equal_to_the_last_bit() {
    for name in ["full", "gemma3", "lfm2"] {
        let mut case = synthetic(name);
        case.load.slots = 2;
        let asked = |reuse| GenerateRequest {
            reuse,
            max_tokens: Some(24),
            ..case.prompt(0, "What is on?")
        };
        let wanted = first_of(&mut start(&case.load), 1, &asked(Reuse::Reproducible));
        let mut engine = start(&case.load);
        for n in 0..4 {
            first_of(&mut engine, 10 + n, &plain(0, format!("{n}{}", case.other)));
            first_of(
                &mut engine,
                20 + n,
                &case.prompt(0, &format!("Number {n}?")),
            );
            // One request that is already running, and one that arrives meanwhile.
            for id in [30 + n, 40 + n] {
                engine.send(&Command::Generate(GenerateRequest {
                    id: RequestId(id),
                    max_tokens: Some(40),
                    ..plain(0, format!("{id}{}", case.other))
                }));
                if id < 40 {
                    engine.until(|e| matches!(e, Event::Started { .. }));
                    engine.send(&Command::Generate(GenerateRequest {
                        id: RequestId(50 + n),
                        ..asked(Reuse::Reproducible)
                    }));
                }
            }
            let mut left = 3;
            let (mut text, mut top) = (String::new(), Vec::new());
            while left > 0 {
                match engine.next() {
                    Event::Finished { .. } => left -= 1,
                    Event::Failed { failure, .. } => panic!("{failure}"),
                    Event::Token {
                        id,
                        parts,
                        logprobs,
                        ..
                    } if id.0 == 50 + n => {
                        text.push_str(&text_of(&parts));
                        top.extend(logprobs.into_iter().next().map(|one| one.top));
                    }
                    _ => {}
                }
            }
            assert_eq!(text, wanted.text, "{name}");
            assert_eq!(top[0], wanted.top, "{name}");
        }
        std::fs::remove_file(&case.path).unwrap();
    }
}
