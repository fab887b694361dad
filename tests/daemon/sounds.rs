//! Sounds over HTTP, with a projector of random weights for the demo model.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearth_gguf::synthetic::{SoundProjector, make_projector};
use serde_json::{Value, json};

use crate::harness::{Daemon, ok};
use crate::pictures::post;
use crate::wav::wav;

const MODEL: &str = "hearth-demo-q8_0";
/// Width of the demo model's embeddings.
const WIDTH: u32 = 256;
const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";

fn install(daemon: &Daemon) {
    let path = daemon.models().join(format!("mmproj-{MODEL}.gguf"));
    let shape = SoundProjector::named("tiny-ultravox").unwrap();
    make_projector(&path, shape.for_width(WIDTH), 3).unwrap();
}

fn ask(daemon: &Daemon, sound: &[u8]) -> Value {
    let content = json!([
        {"type": "input_audio", "input_audio": {"data": STANDARD.encode(sound), "format": "wav"}},
        {"type": "text", "text": "What is said?"},
    ]);
    let messages = json!([{"role": "user", "content": content}]);
    let body = json!({"max_tokens": 6, "temperature": 0, "messages": messages});
    post(daemon, "/v1/chat/completions", &body)
}

/// Sends a form with a file and other fields; the body of the answer.
fn transcribe(daemon: &Daemon, sound: &[u8], fields: &[&str]) -> String {
    let file = daemon.dir.path().join("sound.wav");
    fs::write(&file, sound).unwrap();
    let file = format!("file=@{}", file.display());
    let mut words = vec!["-F", &file, "-F", "max_tokens=6"];
    for field in fields {
        words.extend(["-F", field]);
    }
    let output = daemon.curl(TRANSCRIPTIONS, &words);
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_sound_is_answered_and_transcribed() {
    let daemon = Daemon::real();
    install(&daemon);
    let list = json_of(&String::from_utf8(daemon.curl("/v1/models", &[]).stdout).unwrap());
    let models = list["data"].as_array().unwrap();
    let model = models.iter().find(|model| model["id"] == MODEL).unwrap();
    let meta = &model["meta"];
    assert_eq!(
        (&meta["vision"], &meta["audio"]),
        (&json!(false), &json!(true))
    );
    let shown = post(&daemon, "/api/show", &json!({"model": MODEL}));
    let capabilities = json!(["completion", "tools", "audio"]);
    assert_eq!(shown["capabilities"], capabilities);
    assert!(ok(&daemon.ctl(&["models"])).contains("sound"));
    let props = json_of(&String::from_utf8(daemon.curl("/props", &[]).stdout).unwrap());
    let modalities = json!({"vision": false, "audio": true});
    assert_eq!(props["modalities"], modalities);

    let one = ask(&daemon, &wav(400, 300));
    let text = &one["choices"][0]["message"]["content"];
    assert!(text.is_string(), "{one}");
    let tokens = one["usage"]["prompt_tokens"].as_u64().unwrap();
    let again = ask(&daemon, &wav(400, 300));
    assert_eq!(&again["choices"][0]["message"]["content"], text);
    let cached = |answer: &Value| {
        let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
        cached.as_u64().unwrap()
    };
    assert_eq!(cached(&again), tokens - 1, "{again}");
    let other = ask(&daemon, &wav(400, 900));
    assert!(cached(&other) + 47 < tokens, "{other}");

    let json = json_of(&transcribe(&daemon, &wav(400, 300), &["language=en"]));
    assert!(json["text"].is_string(), "{json}");
    let usage = &json["usage"];
    assert_eq!(
        (&usage["type"], &usage["output_tokens"]),
        (&json!("tokens"), &json!(6))
    );
    let fields = ["language=en", "response_format=text"];
    let text = transcribe(&daemon, &wav(400, 300), &fields);
    assert_eq!(text.strip_suffix('\n'), json["text"].as_str());
    // Another instruction.
    let hint = json_of(&transcribe(
        &daemon,
        &wav(400, 300),
        &["prompt=Names: Ada, Grace."],
    ));
    assert!(hint["usage"]["input_tokens"].as_u64() > usage["input_tokens"].as_u64());
}

#[test]
fn a_sound_that_cannot_be_used_is_refused() {
    let daemon = Daemon::real();
    let refused = |answer: &str, code: &str, part: &str| {
        let answer = json_of(answer);
        assert_eq!(answer["error"]["code"], code, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    };
    let sound = wav(400, 300);
    let none = transcribe(&daemon, &sound, &[]);
    refused(&none, "not_supported", "no installed model takes sounds");
    install(&daemon);
    assert!(json_of(&transcribe(&daemon, &sound, &[]))["text"].is_string());
    for (bytes, code, part) in [
        (&sound[..900], "invalid_request", "cut off"),
        (&wav(0, 300)[..], "invalid_request", "no samples"),
        (b"RIFF\0\0\0\0WAVE", "invalid_request", "cut off"),
        (b"", "invalid_request", "empty"),
        (b"OggS\0\x02", "not_supported", "Ogg"),
        // Their headers are right: the engine finds it.
        (&wav(50, 300), "invalid_request", "at least 1600 are needed"),
        (b"ID3\x04nothing", "invalid_request", "damaged"),
    ] {
        refused(&transcribe(&daemon, bytes, &[]), code, part);
        refused(&ask(&daemon, bytes).to_string(), code, part);
    }
    let words = transcribe(&daemon, &sound, &["response_format=srt"]);
    refused(&words, "not_supported", "times of words");
    let plain = daemon.curl(TRANSCRIPTIONS, &["-d", "file=x"]);
    let plain = String::from_utf8(plain.stdout).unwrap();
    refused(&plain, "invalid_request", "multipart/form-data");
    assert!(json_of(&transcribe(&daemon, &sound, &[]))["text"].is_string());
}
