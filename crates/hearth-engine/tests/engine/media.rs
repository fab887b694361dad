//! Pictures, with projectors of random weights.

use std::path::PathBuf;

use hearth_gguf::synthetic::{ProjectorShape, make_projector};
use hearth_proto::{
    Blob, Command, Event, FailureKind, GenerateRequest, LoadRequest, Media, MediaKind, Message,
    ModelInfo, Prompt, Reuse,
};

use crate::harness::{Answer, Engine, load, request, tiny_model};

/// Width of the embeddings of [`tiny_model`].
const WIDTH: u32 = 128;

/// A projector of this shape, in a file of its own.
fn projector(name: &str, text_width: u32) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}-{text_width}-{}.gguf", std::process::id()));
    // Tests run at the same time.
    let own = path.with_extension(format!("{:?}", std::thread::current().id()));
    let shape: ProjectorShape = name.parse().unwrap();
    make_projector(&own, shape.for_width(text_width), 7).unwrap();
    std::fs::rename(own, &path).unwrap();
    path
}

fn with_projector(name: &str) -> LoadRequest {
    LoadRequest {
        projector: Some(projector(name, WIDTH)),
        kept_tokens: 2048,
        slots: 2,
        ..load(tiny_model())
    }
}

/// An engine with the small model and a projector.
pub fn engine(name: &str) -> (Engine, ModelInfo) {
    let mut engine = Engine::start(&[]);
    let info = engine.load(&with_projector(name)).unwrap();
    (engine, info)
}

/// A bitmap of this size; another seed gives other colors.
pub fn bmp(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4);
    let mut file = b"BM".to_vec();
    for number in [
        54 + row * height,
        0,
        54,
        40,
        width,
        height,
        1 | 24 << 16,
        0,
        0,
        0,
        0,
        0,
        0,
    ] {
        file.extend(number.to_le_bytes());
    }
    for y in 0..height {
        let pixels =
            (0..row).map(|x| (x * seed * 3 + y * seed * seed * 5 + seed * 101).to_le_bytes()[0]);
        file.extend(pixels);
    }
    file
}

pub fn picture(bytes: Vec<u8>, at: usize) -> Media {
    Media {
        kind: MediaKind::Picture,
        at,
        bytes: Blob::from(bytes),
    }
}

pub fn user(text: &str, media: Vec<Media>) -> Message {
    Message {
        media,
        ..Message::user(text)
    }
}

/// A short answer to messages.
pub fn ask(id: u64, messages: Vec<Message>) -> GenerateRequest {
    let tools = Vec::new();
    GenerateRequest {
        max_tokens: Some(8),
        ..request(id, Prompt::Chat { messages, tools })
    }
}

fn show(id: u64, bytes: Vec<u8>) -> GenerateRequest {
    ask(id, vec![user("What is this?", vec![picture(bytes, 0)])])
}

fn answer(engine: &mut Engine, request: GenerateRequest) -> Answer {
    engine.ask(request)
}

/// The log-probability of the first token of the answer.
pub fn logprob(engine: &mut Engine, request: GenerateRequest) -> f32 {
    engine.send(&Command::Generate(GenerateRequest {
        max_tokens: Some(1),
        logprobs: Some(0),
        ..request
    }));
    let Event::Token { logprobs, .. } = engine.until(|e| matches!(e, Event::Token { .. })) else {
        unreachable!("asked for a token")
    };
    let end = engine.until(|e| matches!(e, Event::Finished { .. } | Event::Failed { .. }));
    assert!(matches!(end, Event::Finished { .. }), "{end:?}");
    logprobs[0].logprob
}

#[test]
fn a_picture_is_part_of_the_prompt() {
    for (name, tokens) in [("tiny-gemma3", 16), ("tiny-janus-pro", 64)] {
        let (mut engine, info) = engine(name);
        assert!(info.vision && !info.audio, "{name}");
        let without = answer(&mut engine, ask(1, vec![user("What is this?", vec![])]));
        let one = answer(&mut engine, show(2, bmp(90, 60, 1)));
        // Some projectors put tokens around a picture.
        let more = one.prompt_tokens - without.prompt_tokens;
        assert!((tokens..tokens + 40).contains(&more), "{name}: {more}");
        let likely = |engine: &mut Engine, id, seed| logprob(engine, show(id, bmp(90, 60, seed)));
        let first = likely(&mut engine, 5, 1);
        let again = likely(&mut engine, 6, 1);
        assert!((first - again).abs() < 2e-4, "{name}: {first} {again}");
        let other = likely(&mut engine, 7, 2);
        assert!((first - other).abs() > 2e-4, "{name}: {first} {other}");
        let again = answer(
            &mut engine,
            GenerateRequest {
                reuse: Reuse::Denied,
                ..show(4, bmp(90, 60, 1))
            },
        );
        assert_eq!(again.text, one.text, "{name}");
        assert_eq!(again.cached_tokens, 0);
    }
}

#[test]
fn a_picture_is_found_in_the_prefix_cache() {
    for name in ["tiny-gemma3", "tiny-janus-pro"] {
        let (mut engine, _) = engine(name);
        let first = answer(&mut engine, show(1, bmp(40, 40, 1)));
        let turns = |bytes| {
            vec![
                user("What is this?", vec![picture(bytes, 0)]),
                Message {
                    role: "assistant".into(),
                    content: "A square.".into(),
                    ..Message::default()
                },
                user("Which color?", vec![]),
            ]
        };
        let second = answer(&mut engine, ask(2, turns(bmp(40, 40, 1))));
        // All up to the model's own answer.
        assert!(
            second.cached_tokens + 8 >= first.prompt_tokens,
            "{name}: {} of {}",
            second.cached_tokens,
            first.prompt_tokens
        );
        // Another picture: nothing of it, and not the text behind it.
        let other = answer(&mut engine, ask(3, turns(bmp(40, 40, 2))));
        assert!(other.cached_tokens < 40, "{name}: {}", other.cached_tokens);
        for (id, seed, cached) in [(4, 1, &second), (5, 2, &other)] {
            let anew = GenerateRequest {
                reuse: Reuse::Denied,
                ..ask(id, turns(bmp(40, 40, seed)))
            };
            assert_eq!(answer(&mut engine, anew).text, cached.text, "{name}");
        }
    }
}

#[test]
fn several_pictures_have_their_places() {
    let (mut engine, _) = engine("tiny-janus-pro");
    let (one, two) = (bmp(30, 30, 1), bmp(30, 30, 2));
    let both = |id, first: &Vec<u8>, second: &Vec<u8>, at| {
        let media = vec![picture(first.clone(), 0), picture(second.clone(), at)];
        ask(id, vec![user("ä first, then another", media)])
    };
    let a = logprob(&mut engine, both(1, &one, &two, 8));
    let b = logprob(&mut engine, both(2, &two, &one, 8));
    assert!((a - b).abs() > 1e-3, "{a} {b}");
    // In the middle of a character and behind the end: moved, no crash.
    let c = answer(&mut engine, both(3, &one, &two, 1));
    let d = answer(&mut engine, both(4, &one, &two, 900));
    assert!(c.end.unwrap().is_ok() && d.end.unwrap().is_ok());
}

#[test]
fn what_cannot_be_decoded_is_refused_and_harms_nobody() {
    let (mut engine, _) = engine("tiny-gemma3");
    let png = |width: u32, height: u32| {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        file.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
        file.extend(b"\x08\x02\0\0\0\0\0\0\0\0\0\0\x10IDAT");
        file
    };
    let svg = br#"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>"#;
    for (id, bytes, part) in [
        (1, png(10_000, 10_000), "10000 x 10000"),
        (2, png(16, 16), "damaged"),
        (3, png(0, 0), "0 x 0"),
        (4, svg.to_vec(), "SVG"),
        (5, b"\xff\xd8\xff\xe0\0\x04".to_vec(), "cut off"),
    ] {
        let failed = answer(&mut engine, show(id, bytes));
        let failure = failed.failure();
        assert!(
            matches!(
                failure.kind,
                FailureKind::InvalidArgs | FailureKind::NotSupported
            ),
            "{failure}"
        );
        assert!(failure.message.contains(part), "{part}: {failure}");
    }
    // The first of two frames.
    let frame = b"!\xf9\x04\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0";
    let start = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0";
    let gif = [&start[..], frame, frame, b";"].concat();
    assert!(answer(&mut engine, show(7, gif)).end.unwrap().is_ok());
    assert!(
        answer(&mut engine, show(8, bmp(9, 9, 1)))
            .end
            .unwrap()
            .is_ok()
    );
}

#[test]
fn a_projector_of_another_model_is_not_loaded() {
    let wrong = LoadRequest {
        projector: Some(projector("tiny-gemma3", 96)),
        ..load(tiny_model())
    };
    let failure = Engine::start(&[]).load(&wrong).unwrap_err();
    assert_eq!(failure.kind, FailureKind::ModelInvalid, "{failure}");
    assert!(failure.message.contains("96"), "{failure}");
    let none = answer(&mut Engine::with_model(tiny_model()), show(1, bmp(9, 9, 1)));
    let failure = none.failure();
    assert_eq!(failure.kind, FailureKind::NotSupported);
    assert!(
        failure.message.contains("hearthctl import --projector"),
        "{failure}"
    );
}
