//! Real models answer in Hearthd as in llama.cpp itself: the same prompt tokens, and the
//! log-probabilities of greedy answers equal to the last bit, where the reference is the
//! same library driven with one sequence and without the engine. Each prompt is computed
//! without reuse: `tests/engine/reuse.rs` tests that.
//!
//! `make test-models` tests all models and compares with another build of llama.cpp, too
//! (`tests/models/parity.py`): `HEARTH_PARITY` names its folder, `HEARTH_PARITY_MODELS`
//! the models.

#![allow(clippy::disallowed_methods, reason = "the tests wait")]

#[path = "../../../tests/common/executables.rs"]
mod executables;
#[path = "parity/lora.rs"]
mod lora;
#[path = "../../../tests/common/not_checked.rs"]
mod not_checked;
#[path = "parity/prompts.rs"]
mod prompts;
#[path = "../../../tests/common/real_models.rs"]
mod real_models;
#[path = "parity/reference.rs"]
mod reference;
#[path = "parity/served.rs"]
mod served;

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hearth_proto::common_prefix;
use serde_json::{Value, json};

use prompts::{Prompt, prompts};
use real_models::real_model;
use reference::{Engine, Reference};
use served::Served;

/// The models small enough for every run.
const MODELS: &str = "smollm2 gemma3";
/// Tokens of an answer.
const TOKENS: usize = 24;
/// Tokens of the context, in both.
const CONTEXT: u32 = 4096;

/// One greedy answer.
#[derive(Clone, Debug, PartialEq, Default)]
struct Answer {
    prompt: Vec<i32>,
    text: String,
    /// The ids of the answer's tokens; only the reference has them.
    tokens: Vec<i32>,
    /// Natural logarithms of the probabilities of its tokens.
    logprobs: Vec<f32>,
    /// The difference to the log-probability of the next likeliest token; only the
    /// reference has it.
    gaps: Vec<f32>,
}

impl Answer {
    /// The first difference from `other`, compared bit for bit.
    fn difference(&self, other: &Self) -> Option<String> {
        if self.prompt != other.prompt {
            let at = common_prefix(&self.prompt, &other.prompt);
            return Some(format!("prompt tokens differ from number {at} on"));
        }
        let bits = |all: &[f32]| all.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
        if bits(&self.logprobs) != bits(&other.logprobs) {
            let pairs = self.logprobs.iter().zip(&other.logprobs);
            let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let (a, b) = (self.logprobs.len(), other.logprobs.len());
            return Some(format!(
                "log-probabilities differ by up to {off} ({a} and {b} tokens)"
            ));
        }
        let same = self.text == other.text;
        (!same).then(|| format!("{:?} is not {:?}", self.text, other.text))
    }

    fn as_json(&self) -> Value {
        json!({
            "prompt": self.prompt,
            "text": self.text,
            "tokens": self.tokens,
            "logprobs": self.logprobs,
            "gaps": self.gaps,
        })
    }
}

#[test]
fn greedy_answers_are_those_of_llama_cpp_to_the_bit() {
    let names = env::var("HEARTH_PARITY_MODELS").unwrap_or_else(|_| MODELS.to_owned());
    let folder = env::var_os("HEARTH_PARITY").map(PathBuf::from);
    let engine = Engine::start();
    let models: Vec<PathBuf> = names.split_whitespace().filter_map(real_model).collect();
    // One thread each: as many models at once as there are cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut said = String::new();
    for some in models.chunks(cores) {
        std::thread::scope(|scope| {
            let each = some.iter().map(|model| {
                let folder = folder.as_deref();
                scope.spawn(move || compare(engine, model, folder))
            });
            for one in each.collect::<Vec<_>>() {
                said += &one.join().unwrap();
            }
        });
    }
    assert!(said.is_empty(), "{said}");
}

/// Asks one model all prompts in both ways; returns the differences.
fn compare(engine: &Engine, model: &Path, folder: Option<&Path>) -> String {
    let mut said = String::new();
    let name = model.file_stem().unwrap().to_str().unwrap();
    let prompts = prompts(folder.map(|f| f.join(format!("{name}.rendered.json"))));
    let reference = Reference::load(engine, model);
    let expected: Vec<Answer> = prompts.iter().map(|p| reference.answer(&p.text)).collect();
    drop(reference);
    let served = Served::start(model);
    let mut all = Vec::new();
    for (prompt, expected) in prompts.iter().zip(&expected) {
        let answer = served.complete(&prompt.text);
        let difference = answer.difference(expected);
        if let Some(difference) = &difference {
            _ = writeln!(said, "{name}, {}: {difference}", prompt.name);
        }
        let chat = folder.and_then(|_| served.chat(prompt));
        all.push(record(
            prompt,
            &answer,
            expected,
            difference.as_deref(),
            chat.as_ref(),
        ));
    }
    let longest = expected.iter().map(|e| e.prompt.len()).max().unwrap_or(0);
    assert!(longest > 1500, "the longest prompt has {longest} tokens");
    if let Some(folder) = folder {
        let text = serde_json::to_string_pretty(&all).unwrap();
        std::fs::write(folder.join(format!("{name}.hearthd.json")), text).unwrap();
    }
    said
}

fn record(
    prompt: &Prompt,
    answer: &Answer,
    expected: &Answer,
    difference: Option<&str>,
    chat: Option<&Value>,
) -> Value {
    json!({
        "name": prompt.name,
        "kind": prompt.kind,
        "hearthd": answer.as_json(),
        "reference": expected.as_json(),
        "difference": difference,
        "chat": chat,
    })
}
