//! Sounds, with a projector of random weights.

use hearth_proto::{Command, Event, FailureKind, GenerateRequest, Media, MediaKind, Message};

use crate::harness::{Answer, Engine};
use crate::media::{ask, bmp, engine, logprob, picture, user};

const NAME: &str = "tiny-ultravox";
/// Tokens of 30 seconds: 1500 vectors of the encoder, 32 in one token.
const TOKENS: u32 = 47;
/// Samples in a second, less than the projector's 16,000: files are small.
const RATE: u32 = 8000;

/// How samples are stored in a WAV.
#[derive(Clone, Copy)]
enum Samples {
    Unsigned8,
    Signed16,
    Float32,
}

impl Samples {
    fn bytes(self) -> u16 {
        match self {
            Self::Unsigned8 => 1,
            Self::Signed16 => 2,
            Self::Float32 => 4,
        }
    }

    /// A half or minus a half of full scale.
    fn put(self, is_high: bool, file: &mut Vec<u8>) {
        let half = if is_high { 0.5_f32 } else { -0.5 };
        match self {
            Self::Unsigned8 => file.push(if is_high { 192 } else { 64 }),
            Self::Signed16 if is_high => file.extend(16_384_i16.to_le_bytes()),
            Self::Signed16 => file.extend((-16_384_i16).to_le_bytes()),
            Self::Float32 => file.extend(half.to_le_bytes()),
        }
    }
}

/// A square wave of this frequency, in all channels.
fn wav(samples: Samples, channels: u16, length_ms: u32, hertz: u32) -> Vec<u8> {
    let count = RATE * length_ms / 1000;
    let block = channels * samples.bytes();
    let size = count * u32::from(block);
    let kind: u16 = if samples.bytes() == 4 { 3 } else { 1 };
    let mut file = b"RIFF".to_vec();
    file.extend((size + 36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0");
    file.extend([kind.to_le_bytes(), channels.to_le_bytes()].concat());
    file.extend([RATE.to_le_bytes(), (RATE * u32::from(block)).to_le_bytes()].concat());
    file.extend([block.to_le_bytes(), (samples.bytes() * 8).to_le_bytes()].concat());
    file.extend(b"data");
    file.extend(size.to_le_bytes());
    for at in 0..count {
        for _ in 0..channels {
            samples.put((at * hertz * 2 / RATE).is_multiple_of(2), &mut file);
        }
    }
    file
}

fn tone(hertz: u32) -> Vec<u8> {
    wav(Samples::Signed16, 1, 500, hertz)
}

fn sound(bytes: Vec<u8>) -> Media {
    Media {
        kind: MediaKind::Sound,
        ..picture(bytes, 0)
    }
}

fn play(id: u64, bytes: Vec<u8>) -> GenerateRequest {
    ask(id, vec![user("What is said?", vec![sound(bytes)])])
}

/// The log-probability of the first token, computed anew.
fn anew(engine: &mut Engine, id: u64, bytes: Vec<u8>) -> f32 {
    let request = GenerateRequest {
        reuse: hearth_proto::Reuse::Denied,
        ..play(id, bytes)
    };
    logprob(engine, request)
}

#[test]
fn a_sound_is_part_of_the_prompt() {
    let (mut engine, info) = engine(NAME);
    assert!(info.audio && !info.vision);
    let without = engine.ask(ask(1, vec![user("What is said?", vec![])]));
    let one = engine.ask(play(2, tone(300)));
    assert_eq!(one.prompt_tokens - without.prompt_tokens, TOKENS);
    let first = anew(&mut engine, 3, tone(300));
    let again = anew(&mut engine, 4, tone(300));
    assert!((first - again).abs() < 2e-4, "{first} {again}");
    let other = anew(&mut engine, 5, tone(900));
    assert!((first - other).abs() > 1e-3, "{first} {other}");
    // 31 seconds are encoded in two parts.
    let long = engine.ask(play(6, wav(Samples::Unsigned8, 1, 31_000, 300)));
    assert_eq!(long.prompt_tokens - without.prompt_tokens, 2 * TOKENS);
    assert!(long.end.unwrap().is_ok());
}

#[test]
fn the_same_sound_in_another_format_is_the_same() {
    let (mut engine, _) = engine(NAME);
    let first = anew(&mut engine, 1, tone(300));
    for (id, samples, channels) in [
        (2, Samples::Unsigned8, 1),
        (3, Samples::Float32, 1),
        (4, Samples::Signed16, 2),
    ] {
        let other = anew(&mut engine, id, wav(samples, channels, 500, 300));
        assert!((first - other).abs() < 2e-4, "{id}: {first} {other}");
    }
    // Written to a pipe: the size was not known when its header was written.
    let mut piped = tone(300);
    piped[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    let other = anew(&mut engine, 5, piped);
    assert!((first - other).abs() < 2e-4, "{first} {other}");
}

/// 200 ms of the wave of [`wav`] at 300 Hz; libsndfile 1.2 wrote them.
const FLAC: &[u8] = include_bytes!("sounds/tone.flac");
const MP3: &[u8] = include_bytes!("sounds/tone.mp3");

#[test]
fn flac_and_mp3_are_decoded() {
    let (mut engine, _) = engine(NAME);
    let first = anew(&mut engine, 1, wav(Samples::Signed16, 1, 200, 300));
    let flac = anew(&mut engine, 2, FLAC.to_vec());
    assert!((first - flac).abs() < 2e-4, "{first} {flac}");
    let silence = anew(&mut engine, 3, wav(Samples::Signed16, 1, 200, 0));
    let mp3 = anew(&mut engine, 4, MP3.to_vec());
    assert!((silence - mp3).abs() > 1e-3, "{silence} {mp3}");
    // Of one that is cut off, what is there.
    let cut = engine.ask(play(5, MP3[..1700].to_vec()));
    assert!(cut.end.unwrap().is_ok());
}

#[test]
fn a_sound_is_found_in_the_prefix_cache() {
    let (mut engine, _) = engine(NAME);
    let first = engine.ask(play(1, tone(300)));
    let turns = |bytes| {
        let answer = Message {
            role: "assistant".into(),
            content: "A tone.".into(),
            ..Message::default()
        };
        let question = user("What is said?", vec![sound(bytes)]);
        vec![question, answer, user("How high?", vec![])]
    };
    let second = engine.ask(ask(2, turns(tone(300))));
    assert!(
        second.cached_tokens + 8 >= first.prompt_tokens,
        "{} of {}",
        second.cached_tokens,
        first.prompt_tokens
    );
    let other = engine.ask(ask(3, turns(tone(900))));
    assert!(other.cached_tokens < TOKENS, "{}", other.cached_tokens);
}

fn refused(engine: &mut Engine, id: u64, bytes: Vec<u8>, part: &str) {
    let answer: Answer = engine.ask(play(id, bytes));
    let failure = answer.failure();
    let kinds = [FailureKind::InvalidArgs, FailureKind::NotSupported];
    assert!(kinds.contains(&failure.kind), "{part}: {failure}");
    assert!(failure.message.contains(part), "{part}: {failure}");
}

#[test]
fn what_cannot_be_decoded_is_refused_and_harms_nobody() {
    let (mut engine, _) = engine(NAME);
    let patched = |samples, at: usize, bytes: &[u8]| {
        let mut file = wav(samples, 1, 500, 300);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let at_rate = |rate: u32| patched(Samples::Signed16, 24, &rate.to_le_bytes());
    let floats = |value: f32| patched(Samples::Float32, 44 + 400, &value.to_le_bytes());
    let flac = {
        let mut file = b"fLaC\x80\0\0\x22\x10\0\x10\0\0\0\0\0\0\0".to_vec();
        file.extend(((16_000_u64 << 44) + (15 << 36) + 16_000).to_be_bytes());
        file.resize(42, 0);
        file.extend([0xff; 400]);
        file
    };
    for (id, bytes, part) in [
        (1, tone(300)[..2000].to_vec(), "cut off"),
        (2, tone(300)[..30].to_vec(), "cut off in its header"),
        (3, wav(Samples::Signed16, 1, 0, 300), "no samples"),
        // llama.cpp aborts the process where it gets one sample.
        (
            4,
            wav(Samples::Signed16, 1, 1, 300),
            "at least 1600 are needed",
        ),
        (
            5,
            wav(Samples::Signed16, 1, 99, 300),
            "at least 1600 are needed",
        ),
        (6, at_rate(0), "0 samples per second"),
        (7, at_rate(1), "1 samples per second"),
        (8, at_rate(u32::MAX), "4294967295 samples per second"),
        (9, at_rate(380_000), "at least 1600 are needed"),
        (10, patched(Samples::Signed16, 22, &[0, 0]), "no channels"),
        (11, patched(Samples::Signed16, 20, &[85, 0]), "format 85"),
        (12, patched(Samples::Signed16, 34, &[0, 0]), "damaged"),
        (13, floats(f32::NAN), "no numbers"),
        (14, floats(f32::INFINITY), "no numbers"),
        (15, floats(1e30), "far too large"),
        (16, b"ID3 and nothing else".to_vec(), "damaged"),
        (17, flac, "at least 1600 are needed"),
        (18, b"OggS\0\x02".to_vec(), "Ogg"),
        (19, bmp(9, 9, 1), "no WAV"),
    ] {
        refused(&mut engine, id, bytes, part);
    }
    let picture = engine.ask(ask(20, vec![user("?", vec![picture(bmp(9, 9, 1), 0)])]));
    let failure = picture.failure();
    assert_eq!(failure.kind, FailureKind::NotSupported, "{failure}");
    assert!(failure.message.contains("no pictures"), "{failure}");
    assert!(engine.ask(play(21, tone(300))).end.unwrap().is_ok());
}

#[test]
fn a_model_that_only_sees_refuses_sounds() {
    let (mut engine, _) = engine("tiny-gemma3");
    refused(&mut engine, 1, tone(300), "takes no sounds");
    engine.send(&Command::Generate(ask(2, vec![user("Hello", vec![])])));
    let end = engine.until(|e| matches!(e, Event::Finished { .. } | Event::Failed { .. }));
    assert!(matches!(end, Event::Finished { .. }), "{end:?}");
}
