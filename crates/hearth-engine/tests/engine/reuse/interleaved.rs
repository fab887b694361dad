//! Random interleavings of all operations that affect the prefix cache.

use hearth_proto::{Command, Event, GenerateRequest, LoadRequest, RequestId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::cold::{Cold, first_of};
use super::{disk, plain, shut_down, start};
use crate::harness::{Engine, family_model, load, random_model};

/// One operation on an engine.
#[derive(Clone, Debug)]
enum Step {
    /// A prompt: which prefix, how much of it, which question.
    Ask {
        text: usize,
        length: usize,
        question: usize,
    },
    /// The same, cancelled at once while another one runs.
    Cancel {
        text: usize,
        question: usize,
    },
    Forget,
    Shrink,
    Restart,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3_usize, 1..4_usize, 0..4_usize)
            .prop_map(|(text, length, question)| Step::Ask { text, length, question }),
        1 => (0..3_usize, 0..4_usize).prop_map(|(text, question)| Step::Cancel { text, question }),
        1 => Just(Step::Forget),
        1 => Just(Step::Shrink),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 4..24)
}

/// Three prefixes of three parts each, two of which have the same first part.
fn prompt(text: usize, length: usize, question: usize) -> GenerateRequest {
    let common = "The light in the kitchen is on. ".repeat(3);
    let parts = [
        [
            common.as_str(),
            "Nobody is at home today.",
            " It rains outside now.",
        ],
        [
            common.as_str(),
            "Everybody is at home.",
            " The sun shines here.",
        ],
        [
            "Quite another text. ",
            "It is of other things.",
            " And has an end too.",
        ],
    ];
    let begin: String = parts[text][..length].concat().repeat(length);
    plain(0, format!("{begin} Question {question}: what now?"))
}

/// Small enough that prompts constantly evict each other.
fn tight(path: &std::path::Path) -> LoadRequest {
    LoadRequest {
        context_size: 640,
        kept_tokens: 300,
        slots: 2,
        ..load(path)
    }
}

fn cancelled(engine: &mut Engine, request: &GenerateRequest, beside: &GenerateRequest) {
    for (id, request) in [(900, beside), (901, request)] {
        engine.send(&Command::Generate(GenerateRequest {
            id: RequestId(id),
            ..request.clone()
        }));
    }
    engine.send(&Command::Cancel { id: RequestId(901) });
    let mut left = 2;
    while left > 0 {
        match engine.next() {
            Event::Finished { .. } => left -= 1,
            Event::Failed { id, .. } => {
                assert_eq!(id.0, 901, "a neighbour failed");
                left -= 1;
            }
            _ => {}
        }
    }
}

fn run(load: &LoadRequest, cold: &mut Cold, steps: &[Step]) -> Result<u32, TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let load = LoadRequest {
        cache: Some(disk(dir.path())),
        ..load.clone()
    };
    let mut engine = start(&load);
    let mut reused = 0;
    for (id, step) in (1..).zip(steps) {
        match *step {
            Step::Ask {
                text,
                length,
                question,
            } => {
                let asked = prompt(text, length, question);
                let first = first_of(&mut engine, id, &asked);
                let row = cold.row("random", &asked, &first);
                reused += first.cached;
                prop_assert!(row.difference <= row.noise, "{step:?}: {row:?}");
            }
            Step::Cancel { text, question } => {
                let asked = prompt(text, 3, question);
                cancelled(&mut engine, &asked, &prompt(2, 2, question));
            }
            Step::Forget => engine.send(&Command::ForgetPrompts { uid: None }),
            Step::Shrink => engine.send(&Command::Shrink),
            Step::Restart => {
                shut_down(engine);
                engine = start(&load);
            }
            Step::Kill => {
                drop(engine);
                engine = start(&load);
            }
        }
    }
    Ok(reused)
}

/// The number of sequences of steps for each kind of memory.
const CASES: u32 = 12;

#[test]
fn whatever_happens_between_prompts_they_are_exact() {
    for name in ["full", "gemma3", "lfm2", "granite-hybrid", "mamba"] {
        let path = match name {
            "full" => random_model("interleaved-full", "2,128,256,4,2,600", "f16"),
            family => family_model(family),
        };
        let load = tight(&path);
        let mut cold = Cold::new(&load);
        // Several prompts give the best estimate of the noise.
        for text in 0..3 {
            cold.of(&prompt(text, 3, 9));
        }
        let cold = std::cell::RefCell::new(cold);
        let reused = std::cell::Cell::new(0);
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            max_shrink_iters: 40,
            ..Config::default()
        };
        let result = TestRunner::new(config).run(&steps(), |steps| {
            let more = run(&load, &mut cold.borrow_mut(), &steps)?;
            reused.set(reused.get() + more);
            Ok(())
        });
        println!("{name}: {} tokens reused", reused.get());
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(reused.get() > 0, "{name}: nothing was ever reused");
        std::fs::remove_file(path).unwrap();
    }
}
