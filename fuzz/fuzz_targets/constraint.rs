//! Schemas and grammars: compiled, and matched for some tokens. Every allowed token is
//! accepted.

#![no_main]

use std::sync::{Arc, LazyLock};

use hearth_constraint::{BareCalls, Binding, CallGrammar, Matcher, Vocabulary, check};
use hearth_proto::{Constraint, GenerateRequest};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Each byte is a token, and 256 ends an answer.
static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let mut pieces: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
    pieces.push(Vec::new());
    let tokenize = |text: &[u8]| text.iter().map(|byte| i32::from(*byte)).collect();
    Vocabulary::new(pieces, &[], &[256], Arc::new(tokenize)).expect("a vocabulary")
});

/// Matches some tokens; `choose` selects each one among those allowed.
fn follow(mut matcher: Matcher, choose: usize) {
    for n in 0..24_usize {
        let mut logits = vec![0.0; 257];
        if matcher.mask(&mut logits).is_err() {
            return;
        }
        let allowed: Vec<i32> = (0..)
            .zip(&logits)
            .filter_map(|(token, logit)| logit.is_finite().then_some(token))
            .collect();
        let Some(token) = allowed.get((choose + n * 7) % allowed.len().max(1)) else {
            return;
        };
        matcher.accept(*token).expect("what is allowed is accepted");
        if *token == 256 {
            return;
        }
        matcher.forced();
        matcher.is_complete();
    }
}

fuzz_target!(|data: (u8, u8, &str)| {
    let (kind, choose, text) = data;
    let value = || serde_json::from_str::<Value>(text).ok();
    let mut request = GenerateRequest::default();
    let matcher = if let 0..4 = kind % 6 {
        let constraint = match kind % 6 {
            0 => value().map(Constraint::JsonSchema),
            1 => Some(Constraint::Gbnf(text.into())),
            2 => Some(Constraint::Regex(text.into())),
            _ => Some(Constraint::Lark(text.into())),
        };
        let Some(constraint) = constraint else { return };
        request.constraint = Some(constraint.clone());
        if check(&request).is_err() {
            return;
        }
        Matcher::new(&VOCABULARY, &constraint).ok()
    } else {
        let calls = CallGrammar {
            gbnf: text.into(),
            triggers: vec!["<".into()],
            controls: Vec::new(),
            is_forced: kind % 6 == 4,
            one_call: kind >= 128,
            bare: (choose >= 128).then(|| BareCalls {
                gbnf: text.into(),
                marks: ["<".into(), ">".into()],
            }),
        };
        let binding = Binding {
            calls: Some(calls),
            ..Binding::default()
        };
        Matcher::bound(&VOCABULARY, &binding).ok().flatten()
    };
    if let Some(matcher) = matcher {
        follow(matcher, usize::from(choose));
    }
});
