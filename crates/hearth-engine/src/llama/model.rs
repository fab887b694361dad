//! Loads a GGUF file and runs it.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use hearth_constraint::Vocabulary;
use hearth_gguf::fit::{SLOTS_MAX, cell_bytes, places, usable_kv_type};
use hearth_gguf::{Header, read_header};
use hearth_policy::scheduler::MemoryKind;
use hearth_proto::units::Bytes;
use hearth_proto::{
    ChatAbilities, Failure, FailureKind, KindFacts, LoadRequest, ModelInfo, ModelKind, Sampling,
};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::collector::Collector;
use super::context::{Context, ContextParams, FLASH, describe};
use super::embedder::Embedder;
use super::kernels::Runtime;
use super::recommended::recommended;
use super::rope::Factors;
use super::sampler::Sampler;
use crate::backend::{
    Backend, ChatFormat, DecodeError, Loader, Mask, Part, Progress, Sampled, Token,
};
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

/// A loaded model with its context. Field order is drop order: the context is dropped
/// before the model it points into.
#[derive(Debug)]
pub struct LlamaModelBackend {
    embedder: Option<Embedder>,
    progress: Arc<Progress>,
    context: Context,
    places: (u32, u32),
    /// What saved states depend on.
    settings: String,
    /// The parameters of the context.
    params: ContextParams,
    defaults: Sampling,
    info: ModelInfo,
    model: Arc<LlamaModel>,
}

impl Loader for LlamaLoader {
    type Backend = LlamaModelBackend;

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
        let kv_type = usable_kv_type(&header, request.kv_type);
        if kv_type != request.kv_type {
            log::warn!("no q8_0 key cache for this model's heads: f16 is used");
        }
        let kv_token_bytes = cell_bytes(&header, kv_type);
        let slots = request.slots.clamp(1, SLOTS_MAX);
        let places = places(&header, slots, request.kept_tokens);
        check_memory(
            kv_token_bytes.saturating_mul(kv_tokens.into()),
            context_size,
        )?;
        let params = ContextParams {
            kv_tokens,
            sequences: places.0 + places.1,
            kv_type,
            context_original: factors.map_or(0, |factors| factors.context_original),
            threads_max: request.threads_max,
            outputs: self.outputs,
            poll: self.poll,
            collector: self.collector.clone(),
        };
        let mut context = Context::new(&model, &params, progress)
            .ok_or_else(|| no_memory(context_size, &super::log::take_errors().join("; ")))?;
        context.set_threads(request.limits.threads, request.limits.decode_threads);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole ms"
        )]
        let load_ms = clock::ms_since(began) as u64;
        let info = ModelInfo {
            description: describe(&model, &header),
            parameters: model.n_params(),
            size_bytes: model.size(),
            // The KV cache also has room for cached prefixes, and llama.cpp rounds up.
            context_size,
            context_train: model.n_ctx_train(),
            slots,
            kv_tokens: context.size(),
            kv_token_bytes,
            vocab_size: model.n_vocab().cast_unsigned(),
            cpu: self.runtime.cpu().to_owned(),
            kind: kind(&model, &context, &header),
            has_chat_template: chat_template(&model).is_some(),
            // The chat layer sets this later.
            chat: ChatAbilities::default(),
            load_ms,
        };
        let defaults = defaults(&model, &request.sampling);
        Ok(LlamaModelBackend {
            embedder: None,
            progress: Arc::clone(progress),
            settings: format!(
                // Each version is built with one llama.cpp; another one may use another
                // format.
                "hearthd {} keys {kv_type:?} values F16 flash {FLASH} window {:?} factors {}",
                env!("CARGO_PKG_VERSION"),
                context.memory,
                Factors::name(factors),
            ),
            context,
            places,
            params,
            defaults,
            info,
            model: Arc::new(model),
        })
    }
}

impl LlamaModelBackend {
    /// The logits after part number `part` of the last batch; empty where they were not
    /// requested.
    pub fn logits(&self, part: usize) -> &[f32] {
        self.context.logits(part)
    }
}

impl LlamaLoader {
    fn load_model(
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

fn chat_template(model: &LlamaModel) -> Option<String> {
    model.chat_template(None).ok()?.to_string().ok()
}

/// Bytes that are available without swapping.
pub(crate) fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Refuses a context that would only trigger the OOM killer.
fn check_memory(needed: u64, context_size: u32) -> Result<(), Failure> {
    match available() {
        Some(available) if needed > available => {
            let (needed, available) = (Bytes(needed), Bytes(available));
            Err(no_memory(
                context_size,
                &format!("{needed} needed, {available} available"),
            ))
        }
        _ => Ok(()),
    }
}

fn no_memory(context_size: u32, why: &str) -> Failure {
    Failure::new(
        FailureKind::OutOfMemory,
        format!(
            "no memory for a context of {context_size} tokens ({why}): set a smaller \
             `model.context` or `model.kv_type = \"q8_0\"`"
        ),
    )
}

/// Checks that the file is a GGUF file, which llama.cpp's loader would report only in its
/// log.
pub(super) fn check_header(path: &Path) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        let (kind, next) = if error.kind() == ErrorKind::NotFound {
            (FailureKind::ModelNotFound, "import it, or name another")
        } else {
            (FailureKind::Io, "make it readable for the service")
        };
        Failure::new(
            kind,
            format!(
                "cannot read the model file {}: {error}; {next}",
                path.display()
            ),
        )
    };
    let mut file = File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(invalid(path, "it is not a regular file"));
    }
    let mut magic = Vec::new();
    file.by_ref()
        .take(4)
        .read_to_end(&mut magic)
        .map_err(cannot)?;
    if magic == b"GGUF" {
        return Ok(());
    }
    Err(invalid(
        path,
        &if magic.is_empty() {
            "it is not a GGUF file (it is empty)".to_owned()
        } else {
            let begin = magic.escape_ascii();
            format!("it is not a GGUF file (it starts with \"{begin}\" instead of \"GGUF\")")
        },
    ))
}

/// The header, for what llama.cpp does not report.
///
/// # Errors
/// `ModelNotFound`, `Io`, `ModelInvalid`.
pub(crate) fn header(path: &Path) -> Result<Header, Failure> {
    check_header(path)?;
    let read = File::open(path).map_err(Into::into);
    let read = read.and_then(|file| read_header(&mut BufReader::new(file)));
    read.map_err(|error| invalid(path, &error.to_string()))
}

pub(super) fn invalid(path: &Path, why: &str) -> Failure {
    let why = if why.is_empty() {
        "llama.cpp cannot load it"
    } else {
        why
    };
    Failure::new(
        FailureKind::ModelInvalid,
        format!(
            "{} is not a usable model: {why}; get the file again",
            path.display()
        ),
    )
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
        log::warn!("the model is of kind {kind}; its header was taken for {told}");
    }
    kind
}

/// The model file's own recommendation takes precedence over the config.
fn defaults(model: &LlamaModel, config: &Sampling) -> Sampling {
    let recommended = recommended(|key| model.meta_val_str(key).ok());
    recommended.or(config)
}

impl Backend for LlamaModelBackend {
    type Sampler = Sampler;

    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn set_chat(&mut self, chat: ChatAbilities) {
        self.info.chat = chat;
    }

    fn chat_format(&self) -> ChatFormat {
        let vocab = self.model.vocab();
        let text = |token: LlamaToken| {
            if !(0..vocab.n_tokens()).contains(&token.0) {
                return String::new();
            }
            let bytes = vocab.token_to_piece(token, true, None);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        ChatFormat {
            template: chat_template(&self.model),
            tool_template: self
                .model
                .meta_val_str("tokenizer.chat_template.tool_use")
                .ok(),
            bos: text(vocab.bos()),
            eos: text(vocab.eos()),
        }
    }

    fn tokenize(&self, text: &str, add_bos: bool) -> Vec<Token> {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), add_bos, true);
        tokens.into_iter().map(|t| t.0).collect()
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        // An id out of range aborts the process.
        if !(0..self.model.n_vocab()).contains(&token) {
            return Vec::new();
        }
        let vocab = self.model.vocab();
        let token = LlamaToken(token);
        // User-defined tokens such as <tool_call> are text; control tokens are not.
        if vocab.is_control(token) {
            return Vec::new();
        }
        vocab.token_to_piece(token, true, None)
    }

    fn is_end(&self, token: Token) -> bool {
        self.model.vocab().is_eog(LlamaToken(token))
    }

    fn vocabulary(&self) -> Result<Vocabulary, Failure> {
        let vocab = self.model.vocab();
        let tokens = || (0..vocab.n_tokens()).map(LlamaToken);
        let pieces = tokens().map(|t| vocab.token_to_piece(t, true, None));
        let specials: Vec<bool> = tokens().map(|t| vocab.is_control(t)).collect();
        let ends: Vec<Token> = tokens().filter(|t| vocab.is_eog(*t)).map(|t| t.0).collect();
        let model = Arc::clone(&self.model);
        let tokenize = move |text: &[u8]| {
            let tokens = model.vocab().tokenize(text, false, false);
            tokens.into_iter().map(|t| t.0).collect()
        };
        Vocabulary::new(pieces.collect(), &specials, &ends, Arc::new(tokenize))
    }

    fn places(&self) -> (u32, u32) {
        self.places
    }

    fn memory(&self) -> MemoryKind {
        self.context.memory
    }

    fn positions(&self, seq: u32) -> Option<(u32, u32)> {
        self.context.positions(seq)
    }

    fn remove(&mut self, seq: u32, position: u32) -> bool {
        self.context.remove(seq, position)
    }

    fn share(&mut self, from: u32, to: u32, tokens: u32) -> bool {
        self.context.share(from, to, tokens)
    }

    fn clear(&mut self) {
        self.context.clear();
    }

    fn save(&mut self, seq: u32, tokens: u32) -> Vec<u8> {
        self.context.save(seq, tokens)
    }

    fn restore(&mut self, seq: u32, saved: &[u8], tokens: u32) -> bool {
        self.context.restore(seq, saved, tokens)
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }

    fn decode(&mut self, parts: &[Part]) -> Result<(), DecodeError> {
        self.context.decode(parts)
    }

    fn batch_max(&self) -> u32 {
        u32::try_from(self.context.batch_size()).unwrap_or(u32::MAX)
    }

    fn sampler(&self, sampling: &Sampling) -> Result<Sampler, Failure> {
        Sampler::new(&self.model, &sampling.or(&self.defaults))
    }

    fn accept(&self, sampler: &mut Sampler, tokens: &[Token], are_answer: bool) {
        sampler.accept(tokens, are_answer);
    }

    fn sample(
        &mut self,
        sampler: &mut Sampler,
        part: usize,
        mask: Option<Mask<'_>>,
        logprobs: Option<u8>,
    ) -> Result<Sampled, Failure> {
        sampler.choose(self.context.logits(part), mask, logprobs)
    }

    fn embed(&mut self, tokens: &[Token]) -> Result<Vec<f32>, Failure> {
        if !self.embedder.as_ref().is_some_and(|e| e.fits(tokens.len())) {
            // Drop the old one first: both would take memory.
            self.embedder = None;
            let facts = self.context.kind_facts(&self.model);
            let (count, pool) = (tokens.len(), self.context.pool());
            self.embedder = Embedder::new(&self.model, &facts, count, pool, &self.progress);
        }
        let embedder = self.embedder.as_mut().ok_or_else(|| {
            let why = super::log::take_errors().join("; ");
            let message = format!("no memory for embeddings beside the answers ({why})");
            Failure::new(FailureKind::OutOfMemory, message)
        })?;
        let made = embedder.embed(tokens, self.context.threads().0);
        made.map_err(|error| match error {
            DecodeError::Aborted => Failure::cancelled(),
            error => Failure::new(FailureKind::Internal, format!("no embedding: {error}")),
        })
    }

    fn embedding_tokens_max(&self) -> u32 {
        Embedder::tokens_max(&self.model)
    }

    fn set_threads(&mut self, threads: u32, decode: u32) {
        self.context.set_threads(threads, decode);
    }

    fn shrink(&mut self, is_empty: bool) {
        self.embedder = None;
        if is_empty && self.params.kv_tokens > self.info.context_size {
            self.params.kv_tokens = self.info.context_size;
            // Both exist for a moment; where memory does not suffice, the old one stays.
            if let Some(context) = Context::new(&self.model, &self.params, &self.progress) {
                let (threads, decode) = self.context.threads();
                self.context = context;
                self.context.set_threads(threads, decode);
                self.info.kv_tokens = self.context.size();
            }
        }
        super::trim();
    }
}
