//! Reasoning before a constrained answer.

use hearth_proto::Constraint;

use super::calls::{allows, bound, hermes};
use super::{END, fits, greedy, vocabulary};
use crate::{Binding, ReasoningTags};

fn thinking(is_open: bool) -> ReasoningTags {
    ReasoningTags {
        start: "<the>".into(),
        ends: vec!["</the>".into()],
        answers: vec!["<tool_call>".into()],
        is_open,
    }
}

#[test]
fn reasoning_is_unconstrained() {
    let (vocabulary, pieces) = vocabulary(false);
    let json = |is_open| {
        bound(
            &vocabulary,
            &Binding {
                constraint: Some(Constraint::JsonObject),
                reasoning: Some(thinking(is_open)),
                ..Binding::default()
            },
        )
    };
    let answer = "{\"ab\": 12}";
    for (is_open, text) in [
        (false, answer.to_owned()),
        (false, format!("<the>x {{ </b></the>{answer}")),
        (false, format!("<the>a</the>\n\n{answer}")),
        (true, format!("x {{ </the>\n{answer}")),
    ] {
        assert_eq!(
            fits(&mut json(is_open), &pieces, &text),
            (true, true),
            "{text}"
        );
    }
    for text in ["x", "<thx", "<the>a</the>x", "<the>a</the>\n\n\nx"] {
        assert!(!fits(&mut json(false), &pieces, text).0, "{text}");
    }
    // The answer must not end during the reasoning; the model decides when that is done.
    let mut open = json(true);
    assert!(fits(&mut open, &pieces, "hm").0 && open.forced().is_empty());
}

#[test]
fn a_required_answer_does_not_end_in_the_reasoning() {
    let (vocabulary, pieces) = vocabulary(false);
    let mut bound_answer = bound(
        &vocabulary,
        &Binding {
            constraint: Some(Constraint::JsonObject),
            reasoning: Some(thinking(true)),
            ..Binding::default()
        },
    );
    assert!(!allows(&mut bound_answer, &pieces, END));
    let mut free = bound(
        &vocabulary,
        &Binding {
            calls: Some(hermes(false)),
            reasoning: Some(thinking(true)),
            ..Binding::default()
        },
    );
    assert!(allows(&mut free, &pieces, END));
}

/// `<` may begin `<the>` or `<tool_call>`.
#[test]
fn an_answer_may_begin_like_reasoning() {
    let (vocabulary, pieces) = vocabulary(false);
    let call = "<tool_call>\n{\"name\": \"turn_on_all\", \"arguments\": {}}\n</tool_call>";
    let forced = || {
        bound(
            &vocabulary,
            &Binding {
                calls: Some(hermes(true)),
                reasoning: Some(thinking(false)),
                ..Binding::default()
            },
        )
    };
    assert_eq!(fits(&mut forced(), &pieces, call), (true, true));
    let thought = format!("<the>hm</the>\n{call}");
    assert_eq!(fits(&mut forced(), &pieces, &thought), (true, true));
    let mut json = bound(
        &vocabulary,
        &Binding {
            constraint: Some(Constraint::JsonObject),
            reasoning: Some(thinking(false)),
            ..Binding::default()
        },
    );
    assert!(!fits(&mut json, &pieces, "<{").0, "half a tag is no answer");
}

#[test]
fn a_call_or_the_budget_ends_the_reasoning() {
    let (vocabulary, pieces) = vocabulary(false);
    let mut auto = bound(
        &vocabulary,
        &Binding {
            calls: Some(hermes(false)),
            reasoning: Some(thinking(true)),
            ..Binding::default()
        },
    );
    assert!(fits(&mut auto, &pieces, "hm <tool_call>\n").0);
    assert!(!allows(&mut auto, &pieces, i32::from(b'x')));

    let mut short = bound(
        &vocabulary,
        &Binding {
            reasoning: Some(thinking(true)),
            reasoning_budget: Some(3),
            ..Binding::default()
        },
    );
    assert!(fits(&mut short, &pieces, "xyz").0);
    let end = greedy(&pieces, b"</the>");
    assert_eq!(short.forced(), end);
    for token in end {
        short.accept(token).unwrap();
    }
    assert!(short.forced().is_empty() && fits(&mut short, &pieces, "free").0);
}
