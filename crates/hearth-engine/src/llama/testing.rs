//! Models for the tests of this module, in this process.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use hearth_gguf::synthetic::{Storage, make};
use hearth_gguf::write::ElementType;
use hearth_proto::KvType;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use super::Runtime;
use super::context::{Context, ContextParams};

pub(super) use real_models::real_model;

#[path = "../../../../tests/common/not_checked.rs"]
mod not_checked;
#[path = "../../../../tests/common/real_models.rs"]
mod real_models;

/// llama.cpp can be started only once in a process.
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

/// The first context of a model, as the engine creates it.
pub(super) fn context(model: &LlamaModel) -> Context {
    let params = ContextParams {
        kv_tokens: 256,
        context_original: 0,
        sequences: 1,
        kv_type: KvType::F16,
        threads_max: 1,
        whole_tokens: 0,
        outputs: 0,
        poll: None,
        collector: None,
    };
    Context::new(model, &params, &Arc::default()).unwrap()
}
