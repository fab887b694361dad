//! Drives `hearth-engine-fake` over a socket pair: the engine's loop without a model.

#![allow(clippy::disallowed_methods, reason = "the tests measure time")]

#[path = "engine/answers.rs"]
mod answers;
#[path = "engine/drafts.rs"]
mod drafts;
#[path = "engine/embed.rs"]
mod embed;
#[path = "engine/faults.rs"]
mod faults;
#[expect(dead_code, reason = "some of it is for models only")]
#[path = "../../hearth-engine/tests/engine/harness.rs"]
mod harness;
#[path = "engine/limits.rs"]
mod limits;
#[path = "engine/order.rs"]
mod order;
#[path = "engine/process.rs"]
mod process;

#[path = "engine/stops.rs"]
mod stops;

use std::path::Path;

use hearth_proto::{Command, RequestId};

use harness::{Engine, load};

/// The executable under test.
const ENGINE: &str = env!("CARGO_BIN_EXE_hearth-engine-fake");

/// A loaded engine with this script.
fn fake(script: &str) -> Engine {
    let mut engine = Engine::start(&[script]);
    engine.load(&load(Path::new("fake"))).unwrap();
    engine
}

fn cancel(id: u64) -> Command {
    Command::Cancel { id: RequestId(id) }
}
