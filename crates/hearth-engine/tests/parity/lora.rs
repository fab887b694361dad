//! Adapters of random weights change answers as in llama.cpp itself.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::prompts::prompts;
use crate::real_models::real_model;
use crate::reference::{Engine, Reference};
use crate::served::Served;

/// The kind of the prompts that are asked.
const KIND: &str = "short";
/// Half, as made, and 0, which is the model itself.
const SCALES: [f32; 3] = [0.5, 1.0, 0.0];

#[test]
fn adapters_change_answers_as_in_llama_cpp_to_the_bit() {
    let names = env::var("HEARTH_PARITY_MODELS").unwrap_or_else(|_| "smollm2".to_owned());
    let folder = env::var_os("HEARTH_PARITY").map(PathBuf::from);
    let engine = Engine::start();
    let mut said = String::new();
    for model in names.split_whitespace().filter_map(real_model) {
        said += &compare(engine, &model, folder.as_deref());
    }
    assert!(said.is_empty(), "{said}");
}

/// The adapter in `folder`, which llama-server was given, or a new one of the same weights.
fn adapter(model: &Path, folder: &Path) -> PathBuf {
    let name = model.file_stem().unwrap().to_str().unwrap();
    let path = folder.join(format!("{name}.lora.gguf"));
    if !path.exists() {
        let made = Command::new(env!("CARGO_BIN_EXE_hearth-engine"))
            .args(["make-adapter", "--base"])
            .arg(model)
            .arg("--out")
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
    }
    path
}

/// Asks one model with its adapter in both ways; returns the differences.
fn compare(engine: &Engine, model: &Path, folder: Option<&Path>) -> String {
    let name = model.file_stem().unwrap().to_str().unwrap();
    let own = tempfile::tempdir().unwrap();
    let path = adapter(model, folder.unwrap_or(own.path()));
    let mut prompts = prompts(folder.map(|f| f.join(format!("{name}.rendered.json"))));
    prompts.retain(|prompt| prompt.kind == KIND);
    let mut reference = Reference::load(engine, model);
    let mut loaded = reference.adapter(&path);
    let (mut said, mut asked, mut changed) = (String::new(), Vec::new(), 0);
    for prompt in &prompts {
        let plain = reference.answer(&prompt.text);
        for scale in SCALES {
            let answer = reference.answer_with(&prompt.text, Some((&mut loaded, scale)));
            // A prompt that the model answers with nothing is one that it does not change.
            assert!(scale != 0.0 || answer == plain, "{name}, {}", prompt.name);
            changed += usize::from(answer.text != plain.text);
            asked.push((prompt, scale, answer));
        }
    }
    assert!(changed > 2, "{name}: the adapter changes {changed} texts");
    drop(reference);
    let served = Served::with_adapter(model, Some(&path));
    let mut all = Vec::new();
    for (prompt, scale, expected) in asked {
        let lora = json!([{"id": 0, "scale": scale}]);
        let answer = served.complete_with(&prompt.text, &lora);
        if let Some(difference) = answer.difference(&expected) {
            _ = writeln!(said, "{name}, {}, scale {scale}: {difference}", prompt.name);
        }
        all.push(json!({
            "name": prompt.name,
            "kind": "lora",
            "scale": scale,
            "hearthd": answer.as_json(),
            "reference": expected.as_json(),
            "difference": answer.difference(&expected),
        }));
    }
    if let Some(folder) = folder {
        let text = serde_json::to_string_pretty(&all).unwrap();
        std::fs::write(folder.join(format!("{name}.lora.json")), text).unwrap();
    }
    said
}
