//! The demo model's held-out questions, asked greedily through the real engine.

use std::path::{Path, PathBuf};

use hearth_engine::tools::is_right;
use hearth_proto::{GenerateRequest, Prompt, Question};

use crate::harness::{Engine, request};

/// The folder of the demo model: in the source tree, or `HEARTH_DEMO_MODEL_DIR`.
fn folder() -> PathBuf {
    std::env::var_os("HEARTH_DEMO_MODEL_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/demo-model"),
        PathBuf::from,
    )
}

/// Share of right answers in per cent.
fn accuracy(kind: &str) -> f64 {
    let model = folder().join(format!("hearth-demo-{kind}.gguf"));
    let questions = std::fs::read_to_string(folder().join("heldout.jsonl")).unwrap();
    let mut engine = Engine::with_model(&model);
    let (mut right, mut all) = (0u32, 0u32);
    for (id, line) in (1..).zip(questions.lines()) {
        let question: Question = serde_json::from_str(line).unwrap();
        let tools = question.tools.clone().unwrap_or_default();
        let prompt = Prompt::Chat {
            messages: question.messages.clone(),
            tools,
        };
        let answer = engine.ask(GenerateRequest {
            max_tokens: Some(96),
            ..request(id, prompt)
        });
        all += 1;
        if is_right(&question, &answer.parts) {
            right += 1;
        } else {
            println!("{kind} {}: {:?}", question.id, answer.text);
        }
    }
    let share = f64::from(right) * 100.0 / f64::from(all);
    println!("{kind}: {right} of {all} right, {share:.1} %");
    share
}

#[test]
fn the_demo_model_answers_held_out_questions() {
    let (full, quantized) = (accuracy("f16"), accuracy("q8_0"));
    for share in [full, quantized] {
        assert!(share >= 95.0, "{share:.1} % right");
    }
    assert!(
        quantized >= full - 2.0,
        "Q8_0 {quantized:.1} %, F16 {full:.1} %"
    );
}
