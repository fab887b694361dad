//! Every field that docs/api/openapi.yaml describes: what it changes, of what the engine is
//! asked or of the answer. What the engine makes of it, samplers above all, is tested in its
//! crate, and with a real model in `tests/daemon/compatibility.rs`.

mod generation;
mod models;
mod texts;

use hearth_proto::Command;
use hearth_testing::Script;
use hyper::Method;
use serde_json::{Value, json};

use crate::field_cases::{Case, Effect, base, case};
use crate::harness::World;
use crate::http::Reply;
use crate::lora;
use crate::proof::Proof;

/// What changes from one answer to the next in any case.
const VOLATILE: [&str; 13] = [
    "id",
    "created",
    "created_at",
    "completed_at",
    "timings",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
    "request_id",
    "generation_settings",
    "accepted_unix_s",
    "modified_at",
];

/// A daemon whose default model has adapters.
async fn world() -> World {
    World::over(
        lora::folder(),
        "[model]\ndefault = \"small\"\n",
        Script::default(),
    )
    .await
}

impl Proof {
    /// Asks with and without each field, which must have its effect.
    async fn holds(self, world: &World) {
        for (path, name) in self.each() {
            let case = case(path, name);
            let (before, after) = both(world, path, name, &case).await;
            case.effect
                .check(&format!("{path}: {name}"), &before, &after);
        }
    }

    /// Asks with and without each field, which must change nothing.
    async fn changes_nothing(self, world: &World) {
        for (path, name) in self.each() {
            let (before, after) = both(world, path, name, &case(path, name)).await;
            assert_eq!(before, after, "{path}: {name}");
            assert_eq!(after.status, 200, "{path}: {name}: {after:?}");
        }
    }

    /// Asks with each field, which must be refused by its name.
    async fn is_refused(self, world: &World) {
        for (path, name) in self.each() {
            let (before, after) = both(world, path, name, &case(path, name)).await;
            assert_eq!(before.status, 200, "{path}: {name}: {before:?}");
            let last = name.rsplit('.').next().unwrap();
            assert_eq!(after.status, 400, "{path}: {name}: {after:?}");
            assert!(after.text.contains(last), "{path}: {name}: {after:?}");
        }
    }
}

/// What a request led to.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u16,
    kind: String,
    text: String,
    answer: Value,
    /// What the engine was asked.
    asked: Vec<Value>,
}

/// A request without the field, and with it.
async fn both(world: &World, path: &str, name: &str, case: &Case) -> (Outcome, Outcome) {
    let mut request = base(path);
    merge(&mut request, &case.with);
    // The first one fills the cache.
    send(world, path, &request).await;
    let before = send(world, path, &request).await;
    set(&mut request, name, case.value.clone());
    (before, send(world, path, &request).await)
}

async fn send(world: &World, path: &str, request: &Value) -> Outcome {
    let known = count(world);
    let reply: Reply = world
        .http(Method::POST, path, &[], request.to_string())
        .await;
    let mut answer = serde_json::from_str(&reply.body).unwrap_or_default();
    forget(&mut answer);
    Outcome {
        status: reply.status,
        kind: reply.header("content-type").into(),
        // A stream is compared by its parts that the effect names.
        text: if answer == Value::Null || reply.status != 200 {
            reply.body
        } else {
            String::new()
        },
        answer,
        asked: asked(world, known),
    }
}

/// How often the engines were asked something.
fn count(world: &World) -> usize {
    world
        .engine
        .picked(|command| is_asked(command).then_some(()))
        .len()
}

fn is_asked(command: &Command) -> bool {
    matches!(
        command,
        Command::Generate(_)
            | Command::Render(_)
            | Command::Tokenize { .. }
            | Command::Detokenize { .. }
            | Command::Embed { .. }
    )
}

/// What the engines were asked after the first `known` times, without what differs in any case.
fn asked(world: &World, known: usize) -> Vec<Value> {
    let mut seen = 0;
    let mut all = world.engine.picked(|command| {
        seen += usize::from(is_asked(command));
        (is_asked(command) && seen > known).then(|| match command {
            Command::Generate(request) => serde_json::to_value(request).unwrap(),
            Command::Render(request) => serde_json::to_value(request).unwrap(),
            other => serde_json::to_value(other).unwrap(),
        })
    });
    all.iter_mut().for_each(forget);
    all
}

/// Removes what differs in any case, at any depth.
fn forget(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|name, _| !VOLATILE.contains(&&**name));
            object.values_mut().for_each(forget);
        }
        Value::Array(list) => list.iter_mut().for_each(forget),
        _ => {}
    }
}

fn merge(into: &mut Value, more: &Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}

/// Sets a field, whose name may have the object's before a point.
fn set(request: &mut Value, name: &str, value: Value) {
    match name.split_once('.') {
        None => request[name] = value,
        Some((object, name)) => {
            if request[object].is_null() {
                request[object] = json!({});
            }
            request[object][name] = value;
        }
    }
}

impl Effect {
    fn check(&self, what: &str, before: &Outcome, after: &Outcome) {
        if let Self::Status(status) = self {
            assert_eq!(
                (before.status, after.status),
                (200, *status),
                "{what}: {after:?}"
            );
            return;
        }
        assert_eq!(
            (before.status, after.status),
            (200, 200),
            "{what}: {after:?}"
        );
        let asked = |of: &Outcome, at: &str| {
            let last = of.asked.last().unwrap_or_else(|| panic!("{what}: {of:?}"));
            last.pointer(at).cloned()
        };
        match self {
            Self::Asks(at, expected) => {
                assert_ne!(asked(before, at).as_ref(), Some(expected), "{what}");
                assert_eq!(
                    asked(after, at).as_ref(),
                    Some(expected),
                    "{what}: {after:?}"
                );
            }
            Self::Changes(at) => {
                assert_ne!(asked(before, at), asked(after, at), "{what}: {after:?}");
            }
            Self::Answers(at, expected) => {
                assert_ne!(before.answer.pointer(at), Some(expected), "{what}");
                assert_eq!(
                    after.answer.pointer(at),
                    Some(expected),
                    "{what}: {after:?}"
                );
            }
            Self::Differs(at) => {
                let (before, after) = (before.answer.pointer(at), after.answer.pointer(at));
                assert!(
                    after.is_some() && before != after,
                    "{what}: {before:?} {after:?}"
                );
            }
            Self::Type(kind) => {
                assert!(!before.kind.starts_with(kind), "{what}: {before:?}");
                assert!(after.kind.starts_with(kind), "{what}: {after:?}");
            }
            Self::More(part) => {
                let count = |of: &Outcome| of.text.matches(part).count();
                assert!(count(after) > count(before), "{what}: {before:?} {after:?}");
            }
            Self::Status(_) | Self::Nothing => panic!("{what}: no effect is known"),
        }
    }
}
