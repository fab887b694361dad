//! The keep-alive of the clients of Ollama's API.

use serde_json::{Value, json};

use crate::harness::{Daemon, until};
use crate::ollama::{is_loaded, one};

#[test]
fn a_client_may_shorten_its_own_keep_alive() {
    let daemon = Daemon::fake("");
    let say = |body: Value| one(&daemon, "/api/generate", &body)["done_reason"].clone();
    assert_eq!(say(json!({"keep_alive": "1h"})), "load");
    // Another process by now.
    assert_eq!(say(json!({"keep_alive": "0s"})), "unload");
    until("it is unloaded", || !is_loaded(&daemon));
}
