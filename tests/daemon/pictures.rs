//! Pictures over every interface, with a projector of random weights for the demo model.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearth_gguf::synthetic::{Projector, make_projector};
use serde_json::{Value, json};

use crate::harness::{Daemon, error, ok};

const MODEL: &str = "hearth-demo-q8_0";
/// Width of the demo model's embeddings.
const WIDTH: u32 = 256;

/// A bitmap of this size; another seed gives other colors.
fn bmp(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4);
    let mut file = b"BM".to_vec();
    for number in [54 + row * height, 0, 54, 40, width, height, 1 | 24 << 16] {
        file.extend(number.to_le_bytes());
    }
    file.resize(54, 0);
    for y in 0..height {
        let pixels =
            (0..row).map(|x| (x * seed * 3 + y * seed * seed * 5 + seed * 101).to_le_bytes()[0]);
        file.extend(pixels);
    }
    file
}

fn install(daemon: &Daemon, text_width: u32) {
    let path = daemon.models().join(format!("mmproj-{MODEL}.gguf"));
    let shape = Projector::named("tiny-gemma3").unwrap();
    make_projector(&path, shape.for_width(text_width), 3).unwrap();
}

/// Posts a body, which may be longer than a command line.
pub fn post(daemon: &Daemon, path: &str, body: &Value) -> Value {
    let file = daemon.dir.path().join("body.json");
    fs::write(&file, body.to_string()).unwrap();
    let data = format!("@{}", file.display());
    let output = daemon.curl(path, &["-d", &data]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn data_url(bytes: &[u8]) -> Value {
    json!({"url": format!("data:image/bmp;base64,{}", STANDARD.encode(bytes))})
}

fn ask(url: &Value) -> Value {
    let content = json!([
        {"type": "image_url", "image_url": url},
        {"type": "text", "text": "What is this?"},
    ]);
    json!({"max_tokens": 6, "temperature": 0, "messages": [{"role": "user", "content": content}]})
}

fn show(daemon: &Daemon, bytes: &[u8]) -> Value {
    post(daemon, "/v1/chat/completions", &ask(&data_url(bytes)))
}

#[test]
fn a_picture_is_answered_over_each_interface() {
    let daemon = Daemon::real();
    install(&daemon, WIDTH);
    let list: Value = serde_json::from_slice(&daemon.curl("/v1/models", &[]).stdout).unwrap();
    let models = list["data"].as_array().unwrap();
    // The projector is no model.
    assert!(!list.to_string().contains("mmproj"), "{list}");
    let model = models.iter().find(|model| model["id"] == MODEL).unwrap();
    assert_eq!(model["meta"]["vision"], true, "{list}");
    let shown = post(&daemon, "/api/show", &json!({"model": MODEL}));
    assert_eq!(
        shown["capabilities"],
        json!(["completion", "tools", "vision"])
    );
    assert!(ok(&daemon.ctl(&["models"])).contains("pictures"));

    let one = show(&daemon, &bmp(80, 60, 1));
    let text = &one["choices"][0]["message"]["content"];
    assert!(text.is_string(), "{one}");
    let tokens = one["usage"]["prompt_tokens"].as_u64().unwrap();
    let again = show(&daemon, &bmp(80, 60, 1));
    assert_eq!(&again["choices"][0]["message"]["content"], text);
    let cached = &again["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert_eq!(cached.as_u64().unwrap(), tokens - 1, "{again}");
    let other = show(&daemon, &bmp(80, 60, 2));
    let cached = &other["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert!(cached.as_u64().unwrap() + 16 < tokens, "{other}");

    let image = STANDARD.encode(bmp(80, 60, 1));
    let options = json!({"num_predict": 6, "temperature": 0});
    let message = json!({"role": "user", "content": "What is this?", "images": [image]});
    let chat = json!({"model": MODEL, "stream": false, "options": options, "messages": [message]});
    let chat = post(&daemon, "/api/chat", &chat);
    assert_eq!(&chat["message"]["content"], text, "{chat}");
    let generate = json!({"model": MODEL, "stream": false, "options": options,
        "prompt": "What is this?", "images": [image]});
    let generate = post(&daemon, "/api/generate", &generate);
    assert_eq!(&generate["response"], text, "{generate}");
    let part = json!({"type": "input_image", "image_url": data_url(&bmp(80, 60, 1))["url"]});
    let input = json!([{"role": "user", "content": [part,
        {"type": "input_text", "text": "What is this?"}]}]);
    let body = json!({"input": input, "max_output_tokens": 6, "temperature": 0});
    let response = post(&daemon, "/v1/responses", &body);
    assert_eq!(
        &response["output"][0]["content"][0]["text"], text,
        "{response}"
    );
}

#[test]
fn a_picture_that_cannot_be_used_is_refused() {
    let daemon = Daemon::real();
    let refused = |answer: Value, code: &str, part: &str| {
        assert_eq!(answer["error"]["code"], code, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    };
    let small = bmp(8, 8, 1);
    refused(show(&daemon, &small), "not_supported", "import --projector");
    install(&daemon, WIDTH * 2);
    refused(show(&daemon, &small), "not_supported", "512 numbers");
    install(&daemon, WIDTH);
    assert!(show(&daemon, &small)["choices"].is_array());

    let mut huge = bmp(8, 8, 1);
    huge[18..22].copy_from_slice(&10_000_u32.to_le_bytes());
    huge[22..26].copy_from_slice(&10_000_u32.to_le_bytes());
    refused(show(&daemon, &huge), "invalid_request", "10000 x 10000");
    refused(show(&daemon, b"<svg/>"), "not_supported", "SVG");
    // Its header is whole, its data are not: the engine finds it.
    let png =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\x02\0\0\0\0\0\0\0\0\0\0\x10IDAT";
    refused(show(&daemon, png), "invalid_request", "damaged");
    let url = ask(&json!("https://example.org/cat.png"));
    let remote = post(&daemon, "/v1/chat/completions", &url);
    refused(remote, "not_supported", "no network");
    assert!(show(&daemon, &small)["choices"].is_array());

    ok(&daemon.ctl(&["unload"]));
    let removed = format!("mmproj-{MODEL}");
    ok(&daemon.ctl(&["remove", &removed]));
    refused(show(&daemon, &small), "not_supported", "import --projector");
    assert!(error(&daemon.ctl(&["remove", &removed])).contains("no model"));
}
