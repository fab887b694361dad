//! Answers of models, taken apart. However an answer is cut, its parts are the same.

#![no_main]

use hearthd::prompt::{AnswerParser, Part, Reading};
use hearthd::protocol::CallFormat;
use libfuzzer_sys::fuzz_target;

/// Parts without the places where text was cut.
fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        match (all.last_mut(), part) {
            (Some(Part::Content(text)), Part::Content(more))
            | (Some(Part::Reasoning(text)), Part::Reasoning(more)) => text.push_str(&more),
            (_, part) => all.push(part),
        }
    }
    all
}

fuzz_target!(|data: (u8, u8, &str)| {
    let (kind, size, answer) = data;
    let formats = [
        None,
        Some(CallFormat::Hermes),
        Some(CallFormat::Llama),
        Some(CallFormat::Mistral),
        Some(CallFormat::Json),
    ];
    let names = ["f", "get_time"].map(str::to_owned);
    let reading = Reading {
        calls: formats[usize::from(kind / 4) % formats.len()],
        tools: if kind & 1 == 0 {
            names.into()
        } else {
            Vec::new()
        },
        in_reasoning: kind & 2 != 0,
    };
    let whole = AnswerParser::read(reading.clone(), answer);
    let mut parser = AnswerParser::new(reading);
    let mut parts = Vec::new();
    let mut rest = answer;
    while !rest.is_empty() {
        let at = (usize::from(size % 7) + 1..)
            .find(|at| *at >= rest.len() || rest.is_char_boundary(*at))
            .map_or(rest.len(), |at| at.min(rest.len()));
        let (now, later) = rest.split_at(at);
        parts.extend(parser.push(now));
        rest = later;
    }
    parts.extend(parser.finish());
    assert_eq!(joined(parts), joined(whole));
});
