//! Cost of a token on the socket between engine and daemon: encoding and decoding one
//! frame. At tens of tokens a second it must be negligible.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hearth_proto::{
    AnswerPart, Command, Event, GenerateRequest, Message, Prompt, RequestId, framing,
};

fn token(c: &mut Criterion) {
    let event = Event::Token {
        id: RequestId(123_456),
        parts: vec![AnswerPart::Content(" kitchen".into())],
        generated: 57,
        tokens: vec![57],
        logprobs: vec![],
    };
    let frame = framing::encode(&event).expect("a token fits a frame");
    c.bench_function("encode a token", |b| {
        b.iter(|| framing::encode(black_box(&event)));
    });
    c.bench_function("decode a token", |b| {
        b.iter(|| framing::read::<Event>(&mut black_box(frame.as_slice())));
    });
}

fn request(c: &mut Criterion) {
    let command = Command::Generate(GenerateRequest {
        id: RequestId(1),
        prompt: Prompt::Chat {
            messages: vec![Message::user("word ".repeat(1500))],
            tools: vec![],
        },
        max_tokens: Some(256),
        ..GenerateRequest::default()
    });
    let frame = framing::encode(&command).expect("a request fits a frame");
    c.bench_function("encode a request of 1500 words", |b| {
        b.iter(|| framing::encode(black_box(&command)));
    });
    c.bench_function("decode a request of 1500 words", |b| {
        b.iter(|| framing::read::<Command>(&mut black_box(frame.as_slice())));
    });
}

criterion_group!(benches, token, request);
criterion_main!(benches);
