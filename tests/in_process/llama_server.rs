//! llama-server's own endpoints.

use hearth_proto::{Command, Prompt};
use hearth_testing::Script;
use serde_json::json;

use crate::harness::World;

#[tokio::test(start_paused = true)]
async fn apply_template_shows_the_prompt_of_a_chat() {
    let world = World::new(Script::default()).await;
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    let body = json!({"messages": [{"role": "user", "content": "abc"}], "tools": [tool],
        "chat_template_kwargs": {"enable_thinking": false}});
    let reply = world.post("/apply-template", &body).await;
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!({"prompt": "abc"}))
    );
    let asked = world.engine.picked(|command| match command {
        Command::Render(request) => Some(request.clone()),
        _ => None,
    });
    let Prompt::Chat { messages, tools } = &asked[0].prompt else {
        panic!("{asked:?}")
    };
    assert_eq!((messages.len(), tools.len()), (1, 1));
    assert_eq!(asked[0].chat_template_kwargs["enable_thinking"], false);
    assert!(asked[0].accepted_unix_s > 0);
    // Nothing was generated.
    assert!(world.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn apply_template_refuses_what_a_chat_refuses() {
    let world = World::with("[queue]\nprompt_max_bytes = 3000\n", Script::default()).await;
    for (body, param) in [
        (json!({"messages": []}), json!("messages")),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "tools": 1}),
            json!("tools"),
        ),
        (
            json!({"messages": [{"role": "user", "content": "x".repeat(4000)}]}),
            json!(null),
        ),
    ] {
        let reply = world.post("/apply-template", &body).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &param),
            "{reply:?}"
        );
    }
    let other = json!({"model": "other", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(world.post("/apply-template", &other).await.status, 404);
}
