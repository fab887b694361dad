//! The keep-alive of the clients of Ollama's API.

use serde_json::{Value, json};

use crate::client::{chat, content, post, reply, send_to};
use crate::harness::{Daemon, until};
use crate::ollama::{is_loaded, one, send, user};

#[test]
fn a_model_stays_as_long_as_anyone_wants_it() {
    let daemon = Daemon::fake("token-ms=2");
    let say = |agent: &str, body: Value| {
        let args = ["-A", agent, "-d", &body.to_string()];
        let (code, lines) = send(&daemon, "/api/chat", &args);
        assert_eq!(code, 200, "{lines:?}");
        lines.last().unwrap()["done_reason"].clone()
    };
    // Loads the model; one client wants to keep it forever, the other not at all.
    assert_eq!(
        say("one", json!({"model": "fake:latest", "keep_alive": -1})),
        "load"
    );
    assert!(is_loaded(&daemon));
    let running = || send(&daemon, "/api/ps", &[]).1[0]["models"].clone();
    assert!(running()[0]["expires_at"].as_str().unwrap() > "2100");
    assert_eq!(
        say("two", json!({"keep_alive": "5m", "messages": user("x")})),
        "stop"
    );
    assert_eq!(
        say("two", json!({"keep_alive": 0, "messages": user("x")})),
        "stop"
    );
    assert_eq!(say("two", json!({"keep_alive": 0})), "unload");
    assert!(is_loaded(&daemon), "the other one's wish holds");
    assert_eq!(
        say("one", json!({"keep_alive": 0, "messages": user("x")})),
        "stop"
    );
    until("nobody wants it any more", || !is_loaded(&daemon));
    assert_eq!(running(), json!([]));

    // The model stays while a request is being answered.
    let (sender, answered) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let long = json!({"messages": user(&"word ".repeat(200)), "stream": false});
            sender.send(one(&daemon, "/api/chat", &long)).unwrap();
        });
        until("it is being answered", || {
            daemon.health()["service"]["active_jobs"] == 1
        });
        assert_eq!(say("two", json!({"keep_alive": 0})), "unload");
    });
    let answer = answered.recv().unwrap();
    assert_eq!(answer["message"]["content"], "word ".repeat(200));
    assert!(is_loaded(&daemon));

    // A keep-alive shorter than the configured one applies if no other client has used
    // the model.
    assert_eq!(say("two", json!({"keep_alive": 0})), "unload");
    until("it is unloaded", || !is_loaded(&daemon));
}

#[test]
fn a_short_wish_ends_by_itself() {
    let daemon = Daemon::fake("");
    let body = json!({"keep_alive": "1s", "messages": user("x"), "stream": false});
    one(&daemon, "/api/chat", &body);
    assert!(is_loaded(&daemon));
    // The configured keep-alive is fifteen minutes.
    until("it is unloaded", || !is_loaded(&daemon));
    // The use by a client without a keep-alive counts with the configured one.
    daemon.chat(r#"{"messages":[{"role":"user","content":"x"}]}"#);
    one(&daemon, "/api/chat", &body);
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert!(is_loaded(&daemon));
}

#[test]
fn the_same_program_may_take_its_wish_back() {
    let daemon = Daemon::fake("");
    let say = |body: Value| one(&daemon, "/api/generate", &body)["done_reason"].clone();
    assert_eq!(say(json!({"keep_alive": "1h"})), "load");
    // Another process by now.
    assert_eq!(say(json!({"keep_alive": "0s"})), "unload");
    until("it is unloaded", || !is_loaded(&daemon));
}

#[test]
fn who_meets_an_ending_engine_waits_for_the_next() {
    let daemon = Daemon::real();
    let mut question = chat("What is the capital of Italy?");
    question["temperature"] = 0.into();
    let text = json!({"input": "a cat"}).to_string();
    let first = content(&reply(post(&daemon, &question)).1).to_owned();
    for _ in 0..10 {
        // The response arrives before the engine has ended.
        let (_, gone) = reply(send_to(&daemon, "/api/generate", r#"{"keep_alive": 0}"#));
        assert_eq!(gone["done_reason"], "unload");
        let answer = post(&daemon, &question);
        let vectors = send_to(&daemon, "/api/embed", &text);
        assert_eq!(content(&reply(answer).1), first);
        let (_, vectors) = reply(vectors);
        assert!(vectors["embeddings"][0].is_array(), "{vectors}");
    }
}
