//! Loads a GGUF file.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use hearth_cache::fingerprint;
use hearth_gguf::Header;
use hearth_gguf::fit::{cell_bytes, sequences, usable_kv_type};
use hearth_proto::{
    ChatAbilities, EngineShape, Failure, FailureKind, KindFacts, KvType, LoadRequest, ModelInfo,
    ModelKind, Sampling,
};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use super::adapters::Adapters;
use super::available::{check_memory, no_memory};
use super::collector::Collector;
use super::context::{Context, ContextParams, FLASH};
use super::describe::describe;
use super::draft::DraftModel;
use super::file::{check_header, header, invalid};
use super::kernels::Runtime;
use super::media::MediaLibrary;
use super::model::{LlamaModelBackend, chat_template};
use super::recommended::recommended;
use super::rope::Factors;
use crate::backend::{Loader, Progress, Tokenizer as _};
use crate::clock;

/// Loads models with llama.cpp.
#[derive(Debug)]
pub struct LlamaLoader {
    runtime: Runtime,
    poll: Option<u32>,
    outputs: u32,
    collector: Option<Arc<Collector>>,
}

impl LlamaLoader {
    /// A loader on a started runtime.
    pub fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            poll: Some(0),
            outputs: 0,
            collector: None,
        }
    }

    /// For measurements: how long compute threads spin between two graphs, 0 (not at all,
    /// the default) to 100; `None` creates new threads for every graph instead.
    #[must_use]
    pub fn with_poll(mut self, poll: Option<u32>) -> Self {
        self.poll = poll;
        self
    }

    /// For evaluation: this many tokens of a batch can have logits, not only one for each
    /// sequence.
    #[must_use]
    pub fn with_outputs(mut self, outputs: u32) -> Self {
        self.outputs = outputs;
        self
    }

    /// For an importance matrix: observes every matrix product.
    #[must_use]
    pub fn with_collector(mut self, collector: Arc<Collector>) -> Self {
        self.collector = Some(collector);
        self
    }

    /// The runtime that it uses.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl Loader for LlamaLoader {
    type Backend = LlamaModelBackend;

    // One sequence: each step frees what the ones before have made if it fails.
    fn load(
        &self,
        request: &LoadRequest,
        progress: &Arc<Progress>,
        report: Box<dyn Fn(f32)>,
    ) -> Result<LlamaModelBackend, Failure> {
        let began = clock::now();
        let path = &request.path;
        check_header(path)?;
        let context_size = request.context_size.max(1);
        let kv_tokens = context_size.saturating_add(request.kept_tokens);
        // llama.cpp reports better what is wrong with a file.
        let factors = header(path).ok().and_then(|header| {
            let factors = Factors::of(&header, context_size)?;
            Some((header.architecture, factors))
        });
        let impose = |params: Pin<&mut LlamaModelParams>| {
            if let Some((arch, factors)) = &factors {
                factors.impose(params, arch, kv_tokens);
            }
        };
        let model = self.load_model(path, progress, report, impose)?;
        let factors = factors.map(|(_, factors)| factors);
        let header = header(path)?;
        let adapters = Adapters::load(&model, &header, &request.adapters);
        let (slots, kept_tokens) = (slots(request), request.kept_tokens);
        let sequences = sequences(&header, &EngineShape::DEFAULT, slots, kept_tokens);
        let kv_type = usable_kv_type(&header, request.kv_type);
        if kv_type != request.kv_type {
            log::warn!("the keys of this model's heads cannot be q8_0: f16 is used");
        }
        let media = projector(request, &model, progress)?;
        let kv_bytes = cell_bytes(&header, kv_type).saturating_mul(kv_tokens.into());
        check_memory(kv_bytes, context_size)?;
        let params = ContextParams {
            kv_tokens,
            sequences: sequences.all(),
            kv_type,
            context_original: factors.map_or(0, |factors| factors.context_original),
            whole_tokens: media.as_ref().map_or(0, |media| media.facts().whole_tokens),
            ..self.params(request)
        };
        let mut context = Context::new(&model, &params, progress)
            .ok_or_else(|| no_memory(context_size, &super::log::take_errors().join("; ")))?;
        context.set_threads(request.limits.threads, request.limits.decode_threads);
        let facts = media.as_ref().map(MediaLibrary::facts).unwrap_or_default();
        let (draft, draft_problem) = self.draft(request, &model, &context, progress);
        let defaults = defaults(&model, &request.sampling);
        let mut backend = LlamaModelBackend {
            embedder: None,
            draft,
            adapters,
            media,
            progress: Arc::clone(progress),
            settings: settings(kv_type, &context, factors) + &projector_settings(request),
            info: ModelInfo {
                sampling: Box::new(defaults.clone()),
                vision: facts.vision,
                audio: facts.audio,
                draft_problem,
                load_ms: whole_ms(clock::ms_since(began)),
                ..self.info(&model, &context, &header, request)
            },
            context,
            sequences,
            defaults,
            params,
            model: Arc::new(model),
        };
        let format = backend.chat_format();
        backend.info.bos_token = format.bos;
        backend.info.eos_token = format.eos;
        Ok(backend)
    }
}

/// What saved states depend on besides the model.
fn settings(kv_type: KvType, context: &Context, factors: Option<Factors>) -> String {
    format!(
        // Each version is built with one llama.cpp; another one may use another format.
        "hearthd {} keys {kv_type:?} values F16 flash {FLASH} window {:?} factors {}",
        env!("CARGO_PKG_VERSION"),
        context.memory().kind(),
        Factors::name(factors),
    )
}

/// The projector that a load request names.
fn projector(
    request: &LoadRequest,
    model: &LlamaModel,
    progress: &Arc<Progress>,
) -> Result<Option<MediaLibrary>, Failure> {
    let threads = request.limits.threads;
    let load = |path: &PathBuf| MediaLibrary::load(path, Some(model), threads, progress);
    request.projector.as_ref().map(load).transpose()
}

/// With pictures, saved states depend on the projector as well.
fn projector_settings(request: &LoadRequest) -> String {
    let fingerprint = request.projector.as_ref().map(|path| fingerprint(path));
    match fingerprint {
        Some(Ok(fingerprint)) => format!(" projector {fingerprint:?}"),
        Some(Err(_)) => " projector unknown".to_owned(),
        None => String::new(),
    }
}

fn slots(request: &LoadRequest) -> u32 {
    request.slots.clamp(1, EngineShape::DEFAULT.slots_max)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole ms"
)]
fn whole_ms(ms: f64) -> u64 {
    ms as u64
}

impl LlamaLoader {
    /// The draft model that a load request names; else why it cannot be used.
    fn draft(
        &self,
        request: &LoadRequest,
        model: &LlamaModel,
        context: &Context,
        progress: &Arc<Progress>,
    ) -> (Option<DraftModel>, String) {
        let Some(file) = &request.draft else {
            return (None, String::new());
        };
        let loaded = if context.memory().kind().can_roll_back() {
            self.load_draft(request, file, model, progress)
        } else {
            Err("the state of the model itself cannot be rolled back".to_owned())
        };
        match loaded {
            Ok(draft) => (Some(draft), String::new()),
            Err(problem) => (None, problem),
        }
    }

    /// The parameters that do not depend on the model.
    pub(super) fn params(&self, request: &LoadRequest) -> ContextParams {
        ContextParams {
            kv_tokens: 0,
            sequences: 0,
            kv_type: request.kv_type,
            context_original: 0,
            threads_max: request.threads_max,
            outputs: self.outputs,
            whole_tokens: 0,
            poll: self.poll,
            collector: self.collector.clone(),
        }
    }

    /// The facts about a loaded model, without the time.
    fn info(
        &self,
        model: &LlamaModel,
        context: &Context,
        header: &Header,
        request: &LoadRequest,
    ) -> ModelInfo {
        ModelInfo {
            description: describe(model, header),
            parameters: model.n_params(),
            size_bytes: model.size(),
            // The KV cache also has room for cached prefixes, and llama.cpp rounds up.
            context_size: request.context_size.max(1),
            context_train: model.n_ctx_train(),
            slots: slots(request),
            kv_tokens: context.size(),
            kv_token_bytes: cell_bytes(header, usable_kv_type(header, request.kv_type)),
            vocab_size: model.n_vocab().cast_unsigned(),
            cpu: self.runtime.cpu().to_owned(),
            kind: kind(model, context, header),
            has_chat_template: chat_template(model).is_some(),
            vision: false,
            audio: false,
            draft_problem: String::new(),
            // Set later: the chat layer's, and the rest.
            chat: ChatAbilities::default(),
            bos_token: String::new(),
            eos_token: String::new(),
            sampling: Box::default(),
            load_ms: 0,
        }
    }

    pub(super) fn load_model(
        &self,
        path: &Path,
        progress: &Arc<Progress>,
        report: Box<dyn Fn(f32)>,
        adjust: impl FnOnce(Pin<&mut LlamaModelParams>),
    ) -> Result<LlamaModel, Failure> {
        _ = super::log::take_errors();
        let progress = Arc::clone(progress);
        let params = LlamaModelParams::default()
            .with_n_gpu_layers(0)
            .with_progress_callback(move |share| {
                progress.tick();
                report(share);
                !progress.is_quit()
            });
        let mut params = std::pin::pin!(params);
        adjust(params.as_mut());
        let model = LlamaModel::load_from_file(&self.runtime.backend, path, &params);
        let model = model.map_err(|_| {
            let why = super::log::take_errors().join("; ");
            let signs = [
                "failed to allocate",
                "unable to allocate",
                "bad_alloc",
                "mmap failed: Cannot allocate",
            ];
            if signs.iter().any(|sign| why.contains(sign)) {
                let message = format!("no memory to load {}: {why}", path.display());
                Failure::new(FailureKind::OutOfMemory, message)
            } else {
                invalid(path, &why)
            }
        })?;
        if model.n_vocab() < 1 || model.n_ctx_train() == 0 {
            return Err(invalid(path, "it has no vocabulary or no context length"));
        }
        Ok(model)
    }
}

/// The kind of the model, from the facts that llama.cpp reports and those that only the
/// file contains.
fn kind(model: &LlamaModel, context: &Context, header: &Header) -> ModelKind {
    let told = header.model_kind();
    let facts = KindFacts {
        is_part: told == Some(ModelKind::Part),
        has_template: header.chat_template.is_some() || chat_template(model).is_some(),
        has_marks: header.has_chat_marks,
        ..context.kind_facts(model)
    };
    let kind = ModelKind::of(&facts);
    if let Some(told) = told.filter(|told| *told != kind) {
        let (kind, told) = (kind.as_str(), told.as_str());
        log::warn!("the model is of kind {kind}, but its header indicates {told}");
    }
    kind
}

/// The model file's own recommendation takes precedence over the config.
fn defaults(model: &LlamaModel, config: &Sampling) -> Sampling {
    let recommended = recommended(|key| model.meta_val_str(key).ok());
    recommended.or(config)
}
