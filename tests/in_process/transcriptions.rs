//! Transcriptions: which model hears them, what it is told, and the bounds of a form.

use std::collections::BTreeMap;

use hearth_gguf::synthetic::{Projector, Shape, SoundProjector, Storage, make, make_projector};
use hearth_proto::{MediaKind, Prompt, Thinking};
use hearth_testing::{Folder, Script};
use hyper::Method;
use serde_json::json;

use crate::harness::{MODEL, World};
use crate::http::Reply;
use crate::wav::wav;

const PATH: &str = "/v1/audio/transcriptions";
const BOUNDARY: &str = "-- boundary";

/// A folder with models of two widths: one that hears, and one that sees.
fn folder() -> Folder {
    let folder = Folder::with_model(MODEL).unwrap();
    let at = |name: &str| folder.models().join(format!("{name}.gguf"));
    let storage: Storage = "f16".parse().unwrap();
    for (name, shape) in [("ears", "1,64,64,4,2,300"), ("eyes", "1,96,96,4,2,300")] {
        let shape: Shape = shape.parse().unwrap();
        make(&at(name), shape, storage, 1, &mut |_, _| ()).unwrap();
    }
    let ears = SoundProjector::named("tiny-ultravox").unwrap();
    make_projector(&at("mmproj-ears"), ears.for_width(64), 1).unwrap();
    let eyes = Projector::named("tiny-gemma3").unwrap();
    make_projector(&at("mmproj-eyes"), eyes.for_width(96), 1).unwrap();
    folder
}

/// A form with these fields.
fn form(fields: &[(&str, &str)]) -> String {
    let part = |(name, content): &(&str, &str)| {
        let file = if *name == "file" {
            "; filename=\"a.wav\""
        } else {
            ""
        };
        let head = format!("Content-Disposition: form-data; name=\"{name}\"{file}");
        format!("--{BOUNDARY}\r\n{head}\r\n\r\n{content}\r\n")
    };
    let parts: String = fields.iter().map(part).collect();
    parts + &format!("--{BOUNDARY}--\r\n")
}

impl World {
    async fn transcribe(&self, fields: &[(&str, &str)]) -> Reply {
        self.send_form(form(fields)).await
    }

    async fn send_form(&self, form: String) -> Reply {
        let kind = format!("multipart/form-data; boundary=\"{BOUNDARY}\"");
        self.http(Method::POST, PATH, &[("content-type", &kind)], form)
            .await
    }
}

fn tone() -> String {
    String::from_utf8(wav(300, 500)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_only_model_that_hears_is_asked() {
    proves!(
        "POST /v1/audio/transcriptions",
        "file language prompt response_format"
    );
    let world = World::over(folder(), "[model]\ndefault = \"eyes\"\n", Script::default()).await;
    let states = world.daemon.model_states();
    let tasks = states.iter().map(|model| (&*model.name, &*model.tasks));
    let tasks: BTreeMap<&str, &[&str]> = tasks.collect();
    assert!(tasks["ears"].ends_with(&["audio"]), "{tasks:?}");
    assert!(tasks["eyes"].ends_with(&["vision"]), "{tasks:?}");
    assert!(!tasks[MODEL].contains(&"audio"), "{tasks:?}");
    let sound = tone();
    let fields = [
        ("file", sound.as_str()),
        ("language", "sv"),
        ("prompt", "Ada"),
    ];
    let reply = world.transcribe(&fields).await;
    let answer = reply.json();
    // The engine of the tests repeats what it is told.
    let said = answer["text"].as_str().unwrap();
    assert!(said.starts_with("Transcribe the audio"), "{said}");
    assert!(said.contains("sv") && said.ends_with("Ada"), "{said}");
    assert_eq!(answer["usage"]["type"], "tokens");
    assert_eq!(world.loads(), ["ears"]);
    let request = world.requests().remove(0);
    assert_eq!(request.thinking, Some(Thinking::Off));
    let Prompt::Chat { messages, .. } = request.prompt else {
        panic!("a chat");
    };
    assert_eq!(messages[0].media[0].kind, MediaKind::Sound);
    assert_eq!(&messages[0].media[0].bytes[..], sound.as_bytes());

    let text = world
        .transcribe(&[("file", &sound), ("response_format", "text")])
        .await;
    assert!(text.header("content-type").starts_with("text/plain"));
    assert!(text.body.starts_with("Transcribe") && text.body.ends_with(".\n"));
    for name in ["ears", "", "default"] {
        let reply = world.transcribe(&[("file", &sound), ("model", name)]).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn options_of_a_form_are_those_of_a_chat() {
    let world = World::over(folder(), "", Script::default()).await;
    let sound = tone();
    let proof = proves!(
        "POST /v1/audio/transcriptions",
        "temperature max_tokens seed priority"
    );
    for (_, name) in proof.each() {
        let (value, at, expected) = match name {
            "temperature" => ("0.5", "/sampling/temperature", json!(0.5)),
            "max_tokens" => ("5", "/max_tokens", json!(5)),
            "seed" => ("11", "/sampling/seed", json!(11)),
            _ => ("background", "/priority", json!("background")),
        };
        for fields in [vec![], vec![(name, value)]] {
            let form = [vec![("file", sound.as_str())], fields.clone()].concat();
            assert_eq!(world.transcribe(&form).await.status, 200, "{name}");
            let asked = serde_json::to_value(world.requests().pop().unwrap()).unwrap();
            let is_asked = asked.pointer(at) == Some(&expected);
            assert_eq!(is_asked, !fields.is_empty(), "{name}: {asked}");
        }
    }
    proves!("POST /v1/audio/transcriptions", "X-Hearthd-Priority");
    let kind = format!("multipart/form-data; boundary=\"{BOUNDARY}\"");
    let headers = [
        ("content-type", kind.as_str()),
        ("x-hearthd-priority", "background"),
    ];
    let form = form(&[("file", &sound)]);
    world.http(Method::POST, PATH, &headers, form).await;
    let last = world.requests().pop().unwrap();
    assert_eq!(last.priority, hearth_proto::Priority::Background);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_transcribed_is_refused() {
    proves!("POST /v1/audio/transcriptions", "model");
    let world = World::over(folder(), "", Script::default()).await;
    let sound = tone();
    for (fields, status, code, part) in [
        (
            vec![("file", &sound[..]), ("model", "eyes")],
            400,
            "not_supported",
            "models that take sounds: ears",
        ),
        (
            vec![("file", &sound), ("model", MODEL)],
            400,
            "not_supported",
            "models that take sounds: ears",
        ),
        (
            vec![("file", &sound), ("model", "whisper-1")],
            404,
            "model_not_found",
            "ears",
        ),
        (vec![("model", "ears")], 400, "invalid_request", "`file`"),
        (
            vec![("file", "nothing"), ("model", "ears")],
            400,
            "invalid_request",
            "no WAV",
        ),
        (
            vec![("file", &sound[..400]), ("model", "ears")],
            400,
            "invalid_request",
            "cut off",
        ),
        (
            vec![("file", &sound), ("stream", "true")],
            400,
            "not_supported",
            "stream",
        ),
        (
            vec![("x", "y"); 33],
            400,
            "invalid_request",
            "more than 32 fields",
        ),
    ] {
        let refused = world.transcribe(&fields).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{refused:?}"
        );
        assert!(refused.body.contains(part), "{part}: {refused:?}");
    }
    let whole = form(&[("file", &sound)]);
    let cut = world.send_form(whole[..whole.len() - 90].to_owned()).await;
    assert_eq!((cut.status, cut.code().as_str()), (400, "invalid_request"));
    let other = world.http(Method::POST, PATH, &[], whole).await;
    assert!(other.body.contains("multipart/form-data"), "{other:?}");
    assert!(world.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_recording_may_be_larger_than_other_bodies() {
    let world = World::over(folder(), "[http]\nbody_max_mib = 1\n", Script::default()).await;
    let send = async |mib: usize| {
        let mut sound = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0@\x1f\0\0@\x1f\0\0".to_vec();
        sound.extend(b"\x01\0\x08\0data\0\0");
        sound.extend(u16::try_from(mib * 16).unwrap().to_le_bytes());
        sound.resize(44 + (mib << 20), b'a');
        let sound = String::from_utf8(sound).unwrap();
        world
            .transcribe(&[("file", &sound), ("model", "ears")])
            .await
    };
    assert_eq!(send(3).await.status, 200);
    let large = send(5).await;
    assert_eq!(large.status, 413, "{large:?}");
}
