//! The cost of a constraint relative to the decode of a token: compilation, and the mask.
//! At 100 ms per token on a small board, a mask of one millisecond would be 1 %.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hearth_constraint::{Matcher, Tokenize, Vocabulary};
use hearth_proto::Constraint;
use serde_json::json;

const ANSWER: &str = r#"{"room": "the living room of the old house", "lamps": [{"name": "ceiling", "level": 80}, {"name": "reading corner", "level": 35}], "until": "22:30", "note": null}"#;

/// Single bytes, the punctuation of JSON, and words of two syllables: as many tokens as a
/// small model's vocabulary has.
fn pieces() -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
    pieces.push(b"<end>".to_vec());
    pieces.extend(
        [
            "{\"", "\": ", "\": \"", "\", \"", "}, {", "\"}", "]}", "[{\"",
        ]
        .map(Into::into),
    );
    let syllables: Vec<String> = "bcdfghjklmnpqrstvwz"
        .chars()
        .flat_map(|c| ["a", "e", "i", "o", "u", "oo", "in"].map(|v| format!("{c}{v}")))
        .collect();
    for first in &syllables {
        for second in &syllables {
            pieces.push(format!("{first}{second}").into());
            pieces.push(format!(" {first}{second}").into());
        }
    }
    pieces
}

fn vocabulary() -> Vocabulary {
    // Forced tokens are not used here.
    let tokenize: Tokenize = Arc::new(|_| Vec::new());
    Vocabulary::new(pieces(), &[], &[256], tokenize).expect("bytes are a vocabulary")
}

fn schema() -> Constraint {
    Constraint::JsonSchema(json!({
        "type": "object",
        "properties": {
            "room": {"type": "string"},
            "lamps": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 40},
                    "level": {"type": "integer", "minimum": 0, "maximum": 100},
                },
                "required": ["name", "level"],
                "additionalProperties": false,
            }},
            "until": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["room", "lamps", "until", "note"],
        "additionalProperties": false,
    }))
}

/// The answer in the longest pieces that fit.
fn tokens(pieces: &[Vec<u8>]) -> Vec<i32> {
    let mut rest = ANSWER.as_bytes();
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let (id, piece) = (0..)
            .zip(pieces)
            .filter(|(_, piece)| rest.starts_with(piece))
            .max_by_key(|(_, piece)| piece.len())
            .expect("each byte is a piece");
        tokens.push(id);
        rest = &rest[piece.len()..];
    }
    tokens
}

fn compile(c: &mut Criterion) {
    c.bench_function("prepare a vocabulary of 36000", |b| b.iter(vocabulary));
    let (vocabulary, schema) = (vocabulary(), schema());
    c.bench_function("compile a schema", |b| {
        b.iter(|| Matcher::new(&vocabulary, black_box(&schema)));
    });
}

fn mask(c: &mut Criterion) {
    let pieces = pieces();
    let tokens = tokens(&pieces);
    let whole = Matcher::new(&vocabulary(), &schema()).expect("the schema compiles");
    let mut logits = vec![0.0; pieces.len()];
    let mut group = c.benchmark_group("mask");
    group.throughput(Throughput::Elements(tokens.len() as u64));
    group.bench_function("every token of an answer", |b| {
        b.iter_batched(
            || whole.clone(),
            |mut matcher| {
                for &token in &tokens {
                    matcher.mask(&mut logits).expect("the answer fits");
                    matcher.accept(token).expect("the answer fits");
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, compile, mask);
criterion_main!(benches);
