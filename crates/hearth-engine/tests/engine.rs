//! Drives `hearth-engine` over a socket pair: models of random weights, broken files, and the
//! demo model's answers. Tests of the loop without a model are in hearth-engine-fake.

#![allow(clippy::disallowed_methods, reason = "the tests measure time")]

#[path = "engine/accuracy.rs"]
mod accuracy;
#[path = "engine/actuators.rs"]
mod actuators;
#[path = "engine/answers.rs"]
mod answers;
#[path = "engine/draft.rs"]
mod draft;
#[path = "engine/embed.rs"]
mod embed;
#[path = "../../../tests/common/executables.rs"]
mod executables;
#[path = "engine/files.rs"]
mod files;
#[path = "engine/forward.rs"]
mod forward;
#[expect(dead_code, reason = "some of it is for engines without a model only")]
#[path = "engine/harness.rs"]
mod harness;
#[path = "engine/infill.rs"]
mod infill;
#[path = "engine/judge.rs"]
mod judge;
#[path = "engine/keep.rs"]
mod keep;
#[path = "engine/kinds.rs"]
mod kinds;
#[path = "engine/lora.rs"]
mod lora;
#[path = "engine/media.rs"]
mod media;
#[path = "engine/memory.rs"]
mod memory;
#[path = "engine/model.rs"]
mod model;
#[path = "../../../tests/common/not_checked.rs"]
mod not_checked;
#[path = "engine/process.rs"]
mod process;
#[path = "engine/prompt_logprobs.rs"]
mod prompt_logprobs;
#[path = "../../../tests/common/real_models.rs"]
mod real_model;
#[path = "engine/render.rs"]
mod render;
#[path = "engine/reuse.rs"]
mod reuse;
#[path = "engine/sound.rs"]
mod sound;

/// The executable under test.
const ENGINE: &str = env!("CARGO_BIN_EXE_hearth-engine");
