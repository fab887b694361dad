//! Conversations stored by the daemon.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd as StdFd;

use hearth_proto::{AnswerPart, FailureKind, Prompt, ToolCall};
use hearth_testing::{Answers, Script, Step};
use serde_json::{Value, json};
use zbus::{OwnedFd, OwnedObjectPath};

use crate::bus::{Bus, Options, Refusal, SESSION};
use crate::harness::{World, counted, until_async};

async fn turns(bus: &Bus, session: &str) -> u32 {
    bus.number(session, SESSION, "Turns").await
}

async fn clone(bus: &Bus, session: &str) -> Result<String, Refusal> {
    let path: OwnedObjectPath = bus.call(session, SESSION, "Clone", &()).await?;
    Ok(path.as_str().to_owned())
}

async fn close(bus: &Bus, session: &str) {
    bus.call::<()>(session, SESSION, "Close", &())
        .await
        .unwrap();
}

fn kind<T: std::fmt::Debug>(result: Result<T, Refusal>) -> FailureKind {
    let refusal = result.unwrap_err();
    refusal.kind.unwrap_or_else(|| panic!("{refusal:?}"))
}

#[tokio::test(start_paused = true)]
async fn appended_text_is_part_of_the_next_turn() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let session = bus.open_session(&Options::new()).await.unwrap();
    let none = Options::new();
    let append = async |text: &str| bus.call::<()>(&session, SESSION, "Append", &(text,)).await;
    let say = async |text: &str| bus.say(&session, text, &none).await;
    assert_eq!(kind(say(" ").await), FailureKind::InvalidArgs);
    append("The door is open.").await.unwrap();
    append("It is cold.").await.unwrap();
    // The engine echoes the last message.
    let expected = "The door is open.\n\nIt is cold.\n\nWhy?";
    assert_eq!(say("Why?").await.unwrap(), expected);
    append("Close it.").await.unwrap();
    assert_eq!(say("").await.unwrap(), "Close it.");
    let long = append(&"x".repeat(1024 * 1024)).await;
    assert_eq!(kind(long), FailureKind::ContextTooLong);
    assert_eq!(say("still here").await.unwrap(), "still here");
    assert_eq!(turns(&bus, &session).await, 3);
}

#[tokio::test(start_paused = true)]
async fn each_turn_is_sent_with_those_before_it() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let options = Options::from([("system", "Be brief.".into()), ("seed", 5_u32.into())]);
    let session = bus.open_session(&options).await.unwrap();
    for text in ["one", "two"] {
        assert_eq!(
            bus.say(&session, text, &Options::new()).await.unwrap(),
            text
        );
    }
    let requests = world.requests();
    let Prompt::Chat { messages, .. } = &requests[1].prompt else {
        panic!("{requests:?}")
    };
    let told: Vec<(&str, &str)> = messages
        .iter()
        .map(|m| (m.role.as_str(), m.content.as_str()))
        .collect();
    let expected = [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "one"),
        ("user", "two"),
    ];
    assert_eq!(told, expected);
    assert_eq!(requests[1].sampling.seed, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_turn_without_an_answer_does_not_change_the_session() {
    let world = World::new(Script::token_ms(5)).await;
    let bus = world.bus().await;
    let none = Options::new();
    let session = bus.open_session(&none).await.unwrap();
    assert_eq!(bus.say(&session, "one", &none).await.unwrap(), "one");
    let deadline = Options::from([("deadline_ms", 300_u32.into())]);
    let late = bus.say(&session, &counted(200), &deadline).await;
    assert_eq!(kind(late), FailureKind::DeadlineExceeded);
    let long = counted(200);
    let meanwhile = async {
        world.until_running(1).await;
        let busy = bus.say(&session, "two", &none).await;
        assert_eq!(kind(busy), FailureKind::Busy);
        let busy = bus.call::<()>(&session, SESSION, "Append", &("two",)).await;
        assert_eq!(kind(busy), FailureKind::Busy);
        // A session can be cloned and continued.
        let other = clone(&bus, &session).await.unwrap();
        assert_eq!(bus.say(&other, "two", &none).await.unwrap(), "two");
        assert_eq!(
            (turns(&bus, &session).await, turns(&bus, &other).await),
            (1, 2)
        );
        close(&bus, &session).await;
        other
    };
    let (cancelled, other) = tokio::join!(bus.say(&session, &long, &none), meanwhile);
    assert_eq!(kind(cancelled), FailureKind::Cancelled);
    world.until_running(0).await;
    // A failed turn leaves nothing behind.
    let failed = bus.say(&other, &long, &deadline).await;
    assert_eq!(kind(failed), FailureKind::DeadlineExceeded);
    assert_eq!(bus.say(&other, "three", &none).await.unwrap(), "three");
    let last = world.requests().pop().unwrap();
    let Prompt::Chat { messages, .. } = &last.prompt else {
        panic!("{last:?}")
    };
    assert_eq!(messages.len(), 5);
    let gone = bus.say(&session, "x", &none).await.unwrap_err();
    assert_eq!(gone.kind, None, "there is no such object");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_sessions_is_limited() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let mut sessions = Vec::new();
    for _ in 0..16 {
        sessions.push(bus.open_session(&Options::new()).await.unwrap());
    }
    let refused = bus.open_session(&Options::new()).await;
    assert_eq!(kind(refused), FailureKind::QuotaExceeded);
    assert_eq!(
        kind(clone(&bus, &sessions[0]).await),
        FailureKind::QuotaExceeded
    );
    close(&bus, &sessions[3]).await;
    bus.open_session(&Options::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn unknown_and_invalid_options_are_refused() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    for (key, value) in [
        ("tempreature", 0.5.into()),
        ("temperature", "hot".into()),
        ("stop", 3_u32.into()),
        ("priority", "urgent".into()),
        ("truncation", "yes".into()),
    ] {
        let refused = bus.open_session(&Options::from([(key, value)])).await;
        let refusal = refused.unwrap_err();
        assert_eq!(refusal.kind, Some(FailureKind::InvalidArgs), "{key}");
        assert!(
            refusal.message.contains(key) || key == "priority",
            "{refusal:?}"
        );
    }
    let session = bus.open_session(&Options::new()).await.unwrap();
    let system = Options::from([("system", "y".into())]);
    let refused = bus.say(&session, "x", &system).await;
    assert_eq!(kind(refused), FailureKind::InvalidArgs);
    // A turn's options apply to this turn only.
    let short = Options::from([("max_tokens", 3_u32.into())]);
    assert_eq!(bus.say(&session, "abcdef", &short).await.unwrap(), "abc");
    let whole = bus.say(&session, "abcdef", &Options::new()).await;
    assert_eq!(whole.unwrap(), "abcdef");
}

/// Calls the tool `light` with what it is asked, and repeats what that returned.
fn caller_of_tools() -> Script {
    Script::answering(Answers::new(|request| {
        let Prompt::Chat { messages, tools } = &request.prompt else {
            return Vec::new();
        };
        let last = messages.last().unwrap();
        if last.role == "user" && !tools.is_empty() {
            let call = ToolCall::new("light", json!({"room": last.content}));
            return vec![Step::Token(vec![AnswerPart::ToolCall(call)])];
        }
        vec![Step::text(format!("done: {}", last.content))]
    }))
}

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "light"}}]"#;

async fn ask(bus: &Bus, session: &str, text: &str) -> Result<Value, Refusal> {
    let args = (text, Options::new());
    let response: String = bus.call(session, SESSION, "Chat", &args).await?;
    Ok(serde_json::from_str(&response).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_session_calls_tools_and_takes_their_results() {
    let world = World::new(caller_of_tools()).await;
    let bus = world.bus().await;
    let wrong = Options::from([("tools", "[{}]".into())]);
    assert_eq!(
        kind(bus.open_session(&wrong).await),
        FailureKind::InvalidArgs
    );
    let options = Options::from([("tools", TOOLS.into())]);
    let session = bus.open_session(&options).await.unwrap();
    // A reply of plain text has no room for a call; the turn is not stored.
    let said = bus.say(&session, "kitchen", &Options::new()).await;
    assert_eq!(kind(said), FailureKind::InvalidArgs);
    let said = ask(&bus, &session, "kitchen").await.unwrap();
    let choice = &said["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let id = choice["message"]["tool_calls"][0]["id"].as_str().unwrap();
    assert_eq!(
        kind(ask(&bus, &session, "more").await),
        FailureKind::InvalidArgs
    );
    let add = async |id: &str| {
        let args = (id, "on");
        bus.call::<()>(&session, SESSION, "AddToolResult", &args)
            .await
    };
    assert_eq!(kind(add("other").await), FailureKind::InvalidArgs);
    add(id).await.unwrap();
    let said = ask(&bus, &session, "").await.unwrap();
    assert_eq!(said["choices"][0]["message"]["content"], "done: on");
    assert_eq!(turns(&bus, &session).await, 2);
    // For one turn, the tools can be left out.
    let none = Options::from([("tool_choice", "none".into())]);
    assert_eq!(
        bus.say(&session, "hall", &none).await.unwrap(),
        "done: hall"
    );
    let requests = world.requests();
    let Prompt::Chat { messages, .. } = &requests.last().unwrap().prompt else {
        panic!()
    };
    let roles: Vec<&str> = messages.iter().map(|m| m.role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user"]);
}

#[tokio::test]
async fn a_turn_streams_and_is_stored_before_its_last_event() {
    let world = World::new(Script::token_ms(1)).await;
    let bus = world.bus().await;
    let session = bus.open_session(&Options::new()).await.unwrap();
    let open = async |text: &str| -> BufReader<File> {
        let args = (text, Options::new());
        let pipe: OwnedFd = bus
            .call(&session, SESSION, "OpenStream", &args)
            .await
            .unwrap();
        BufReader::new(File::from(StdFd::from(pipe)))
    };
    let pipe = open("hello").await;
    let busy = bus.say(&session, "x", &Options::new()).await;
    assert_eq!(kind(busy), FailureKind::Busy);
    let read = tokio::task::spawn_blocking(move || {
        let parse = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
        pipe.lines().map(parse).collect::<Vec<Value>>()
    });
    let events = read.await.unwrap();
    let text: String = events
        .iter()
        .filter_map(|event| event["text"].as_str())
        .collect();
    assert_eq!(
        (text.as_str(), &events.last().unwrap()["type"]),
        ("hello", &json!("finished"))
    );
    assert_eq!(turns(&bus, &session).await, 1);
    // Closing the pipe cancels the answer, and the turn is not stored.
    drop(open(&counted(500)).await);
    until_async("the answer is cancelled", async || {
        bus.text(&session, SESSION, "State").await == "idle"
    })
    .await;
    assert_eq!(turns(&bus, &session).await, 1);
    assert_eq!(
        bus.say(&session, "more", &Options::new()).await.unwrap(),
        "more"
    );
}
