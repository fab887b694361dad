//! Models for the tests of this module, in this process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use super::Runtime;

use crate::engine::gguf::ElementType;
use crate::engine::make_model::{Storage, make};
use not_checked::not_checked;

#[path = "../../../tests/common/not_checked.rs"]
mod not_checked;

/// llama.cpp starts once in a process.
pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::start().unwrap())
}

/// Loads a model file.
pub(super) fn load(path: &Path) -> LlamaModel {
    let params = LlamaModelParams::default().with_n_gpu_layers(0);
    LlamaModel::load_from_file(&runtime().backend, path, &params).unwrap()
}

/// A small model of random weights, whose tokens are bytes.
pub(super) fn small() -> LlamaModel {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.gguf");
    let shape = "1,32,64,2,1,300".parse().unwrap();
    make(
        &path,
        shape,
        Storage::All(ElementType::F32),
        1,
        &mut |_, _| (),
    )
    .unwrap();
    load(&path)
}

/// A real model of `$HEARTH_MODELS`, else of `target/models`; says where it is not there.
pub(super) fn real_model(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("HEARTH_MODELS").map(PathBuf::from);
    let folder =
        folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models"));
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    not_checked(&format!("{name} is not in {}", folder.display()));
    None
}
