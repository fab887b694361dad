//! Which model answers a chat with pictures.

use hearth_gguf::synthetic::{Projector, Shape, Storage, make, make_projector};
use hearth_proto::Prompt;
use hearth_testing::{Folder, Script};
use serde_json::{Value, json};

use crate::harness::{MODEL, World};
use crate::http::{CHAT, body};

/// A GIF of two pixels, of which the daemon reads the header.
const PICTURE: &str = "data:image/gif;base64,R0lGODlhAgABAIAAAA==";

fn write_model(folder: &Folder, name: &str, width: u32) {
    let path = folder.models().join(format!("{name}.gguf"));
    let shape = format!("1,{width},128,4,2,300").parse::<Shape>().unwrap();
    make(&path, shape, Storage::Q4KM, 1, &mut |_, _| ()).unwrap();
}

fn write_projector(folder: &Folder, model: &str, width: u32) {
    let path = folder.models().join(format!("mmproj-{model}.gguf"));
    let shape = Projector::named("tiny-gemma3").unwrap();
    make_projector(&path, shape.for_width(width), 1).unwrap();
}

/// A folder with a model `talk` that takes no pictures, and `see`, which takes some.
fn folder() -> Folder {
    let folder = Folder::with_model(MODEL).unwrap();
    write_model(&folder, "talk", 64);
    write_model(&folder, "see", 128);
    write_projector(&folder, "see", 128);
    folder
}

async fn world(folder: Folder, model: &str) -> World {
    let config = format!("[model]\ndefault = \"talk\"\n{model}\n");
    World::over(folder, &config, Script::default()).await
}

fn picture() -> Value {
    let mut chat = body("");
    chat["messages"][0]["content"] = json!([
        {"type": "image_url", "image_url": {"url": PICTURE}},
        {"type": "text", "text": "Who is it?"},
    ]);
    chat
}

/// The model that answers, or the code of the refusal.
async fn answers(world: &World, chat: &Value) -> String {
    let reply = world.post(CHAT, chat).await;
    if reply.status != 200 {
        return reply.code();
    }
    reply.json()["model"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_only_model_that_takes_pictures_gets_them() {
    let world = world(folder(), "").await;
    assert_eq!(answers(&world, &body("Hello")).await, "talk");
    // Also while another model is in memory, and in a conversation that goes on without one.
    assert_eq!(answers(&world, &picture()).await, "see");
    let mut later = picture();
    let more = json!({"role": "user", "content": "And now?"});
    later["messages"].as_array_mut().unwrap().push(more);
    assert_eq!(answers(&world, &later).await, "see");
    assert_eq!(answers(&world, &body("Hello")).await, "talk");
    let mut named = picture();
    named["model"] = "talk".into();
    assert_eq!(answers(&world, &named).await, "not_supported");
}

#[tokio::test(start_paused = true)]
async fn pictures_of_a_prompt_are_those_of_its_message() {
    proves!("POST /api/generate", "images");
    let world = world(folder(), "").await;
    let url = &picture()["messages"][0]["content"];
    let url = url
        .as_array()
        .unwrap()
        .iter()
        .find_map(|part| part["image_url"]["url"].as_str());
    let data = url.unwrap().split_once(',').unwrap().1;
    let mut request = json!({"prompt": "What is it?", "stream": false});
    for (images, model, count) in [
        (json!([]), "talk:latest", 0),
        (json!([data]), "see:latest", 1),
    ] {
        request["images"] = images;
        let answer = world.post("/api/generate", &request).await.json();
        assert_eq!(answer["model"], model, "{answer}");
        let Prompt::Chat { messages, .. } = world.requests().pop().unwrap().prompt else {
            panic!("a chat")
        };
        assert_eq!(messages[0].media.len(), count);
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_the_configured_one_gets_them_or_the_default() {
    let two = || {
        let folder = folder();
        write_model(&folder, "watch", 192);
        write_projector(&folder, "watch", 192);
        folder
    };
    let undecided = world(two(), "").await;
    let reply = undecided.post(CHAT, &picture()).await;
    assert_eq!(reply.code(), "not_supported");
    assert!(reply.body.contains("talk takes no pictures"), "{reply:?}");
    let configured = world(two(), "vision = \"watch\"\naliases = { door = \"see\" }").await;
    assert_eq!(answers(&configured, &picture()).await, "watch");
    assert_eq!(answers(&configured, &body("Hello")).await, "talk");
    let mut alias = picture();
    alias["model"] = "door".into();
    assert_eq!(answers(&configured, &alias).await, "see");
    // The default for chats takes them, too.
    write_projector(&configured.folder, "talk", 64);
    configured.configure("[model]\ndefault = \"talk\"\n");
    assert_eq!(answers(&configured, &picture()).await, "talk");
}

#[tokio::test(start_paused = true)]
async fn a_projector_installed_later_is_loaded_for_the_first_picture() {
    let world = world(folder(), "").await;
    let mut named = picture();
    named["model"] = "talk".into();
    assert_eq!(answers(&world, &body("Hello")).await, "talk");
    assert_eq!(answers(&world, &named).await, "not_supported");
    assert_eq!(world.loads(), ["talk"]);
    write_projector(&world.folder, "talk", 64);
    for chat in [&named, &named, &body("Hello")] {
        assert_eq!(answers(&world, chat).await, "talk");
    }
    assert_eq!(world.loads(), ["talk", "talk"]);
}

#[tokio::test(start_paused = true)]
async fn messages_image_goes_to_the_model_that_takes_pictures() {
    let world = world(folder(), "").await;
    let data = PICTURE.split_once(',').unwrap().1;
    let image = json!({"type": "image", "source":
        {"type": "base64", "media_type": "image/gif", "data": data}});
    let result = json!({"type": "tool_result", "tool_use_id": "1", "content": [image]});
    for block in [image, result] {
        let mut asked =
            json!({"max_tokens": 9, "messages": [{"role": "user", "content": [block]}]});
        let reply = world.post("/v1/messages", &asked).await;
        assert_eq!(reply.json()["model"], "see", "{reply:?}");
        let sent = world.requests().pop().unwrap().prompt;
        assert_eq!(sent.media().count(), 1, "{sent:?}");
        asked["model"] = "talk".into();
        let refused = world.post("/v1/messages", &asked).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        assert_eq!(refused.json()["error"]["type"], "invalid_request_error");
    }
}
