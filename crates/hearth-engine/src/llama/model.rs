//! A loaded model.

use std::sync::Arc;

use hearth_constraint::Vocabulary;
use hearth_gguf::fit::Sequences;
use hearth_policy::scheduler::MemoryKind;
use hearth_proto::{ChatAbilities, Failure, FailureKind, ModelInfo, Sampling};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::adapters::Adapters;
use super::context::{Context, ContextParams};
use super::draft::DraftModel;
use super::embedder::Embedder;
use super::formats::{infill_tokens, rerank_format};
use super::media::MediaLibrary;
use super::sampler::{LOGPROBS_MAX, Sampler, log_probabilities};
use crate::backend::{
    Backend, ChatFormat, DecodeError, Decoder, InfillTokens, KvStore, LoadedAdapter, Mask,
    MediaDecoder, Part, Progress, RerankFormat, Sampled, Token, Tokenizer,
};

/// A loaded model with its context. Field order is drop order: the context is dropped
/// before the model it points into.
#[derive(Debug)]
pub struct LlamaModelBackend {
    pub(super) embedder: Option<Embedder>,
    pub(super) draft: Option<DraftModel>,
    pub(super) adapters: Adapters,
    /// The projector, where the model has one.
    pub(super) media: Option<MediaLibrary>,
    pub(super) progress: Arc<Progress>,
    pub(super) context: Context,
    pub(super) sequences: Sequences,
    /// What saved states depend on.
    pub(super) settings: String,
    /// The parameters of the context.
    pub(super) params: ContextParams,
    pub(super) defaults: Sampling,
    pub(super) info: ModelInfo,
    pub(super) model: Arc<LlamaModel>,
}

impl LlamaModelBackend {
    /// The logits after part number `part` of the last batch; empty where they were not
    /// requested.
    pub fn logits(&self, part: usize) -> &[f32] {
        self.context.logits(part)
    }

    /// The context for embeddings and scores, for a text of so many tokens.
    fn embedder(&mut self, tokens: usize) -> Result<&mut Embedder, Failure> {
        if !self.embedder.as_ref().is_some_and(|e| e.fits(tokens)) {
            // Drop the old one first: both would take memory.
            self.embedder = None;
            let facts = self.context.kind_facts(&self.model);
            let pool = self.context.pool();
            self.embedder = Embedder::new(&self.model, &facts, tokens, pool, &self.progress);
        }
        self.embedder.as_mut().ok_or_else(|| {
            let why = super::log::take_errors().join("; ");
            let message = format!("no memory for embeddings beside the answers ({why})");
            Failure::new(FailureKind::OutOfMemory, message)
        })
    }
}

impl LlamaModelBackend {
    /// Whether the vocabulary has this token: another one aborts the process.
    fn is_known(&self, token: Token) -> bool {
        (0..self.model.n_vocab()).contains(&token)
    }
}

/// The failure of an embedding or a score.
fn not_embedded(error: &DecodeError) -> Failure {
    match error {
        DecodeError::Aborted => Failure::cancelled(),
        error => Failure::new(
            FailureKind::Internal,
            format!("the embedding failed: {error}"),
        ),
    }
}

/// The chat template in the file.
pub(super) fn chat_template(model: &LlamaModel) -> Option<String> {
    model.chat_template(None).ok()?.to_string().ok()
}

impl Tokenizer for LlamaModelBackend {
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

    fn tokenize_literal(&self, text: &str, add_bos: bool) -> Vec<Token> {
        let tokens = (self.model.vocab()).tokenize(text.as_bytes(), add_bos, false);
        tokens.into_iter().map(|t| t.0).collect()
    }

    fn infill_tokens(&self) -> Option<InfillTokens> {
        infill_tokens(&self.model)
    }

    fn rerank_format(&self) -> RerankFormat {
        rerank_format(&self.model)
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        // User-defined tokens such as <tool_call> are text; control tokens are not.
        let vocab = self.model.vocab();
        if self.is_known(token) && vocab.is_control(LlamaToken(token)) {
            return Vec::new();
        }
        self.name(token)
    }

    fn name(&self, token: Token) -> Vec<u8> {
        if !self.is_known(token) {
            return Vec::new();
        }
        let vocab = self.model.vocab();
        vocab.token_to_piece(LlamaToken(token), true, None)
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
}

impl KvStore for LlamaModelBackend {
    fn sequences(&self) -> Sequences {
        self.sequences
    }

    fn memory(&self) -> MemoryKind {
        self.context.memory().kind()
    }

    fn positions(&self, seq: u32) -> Option<(u32, u32)> {
        self.context.memory().positions(seq)
    }

    fn remove(&mut self, seq: u32, position: u32) -> bool {
        self.context.memory_mut().remove(seq, position)
    }

    fn share(&mut self, from: u32, to: u32, tokens: u32) -> bool {
        self.context.memory_mut().share(from, to, tokens)
    }

    fn clear(&mut self) {
        self.context.memory_mut().clear();
    }

    fn save(&mut self, seq: u32, tokens: u32) -> Vec<u8> {
        self.context.memory_mut().save(seq, tokens)
    }

    fn restore(&mut self, seq: u32, saved: &[u8], tokens: u32) -> bool {
        self.context.memory_mut().restore(seq, saved, tokens)
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }
}

impl Decoder for LlamaModelBackend {
    type Sampler = Sampler;

    fn decode(&mut self, parts: &[Part]) -> Result<(), DecodeError> {
        self.context.decode(parts)
    }

    fn apply_adapters(&mut self, scales: &[(usize, f32)]) {
        self.context.apply(&self.adapters, scales);
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

    fn logprobs(&self, part: usize, token: Token, top: u8) -> (f32, Vec<(Token, f32)>) {
        log_probabilities(self.context.logits(part), token, top.min(LOGPROBS_MAX))
    }

    fn embed(&mut self, tokens: &[Token]) -> Result<Vec<f32>, Failure> {
        let threads = self.context.threads().0;
        let embedder = self.embedder(tokens.len())?;
        embedder
            .embed(tokens, threads)
            .map_err(|error| not_embedded(&error))
    }

    fn rank(&mut self, tokens: &[Token]) -> Result<f32, Failure> {
        let threads = self.context.threads().0;
        let embedder = self.embedder(tokens.len())?;
        embedder
            .rank(tokens, threads)
            .map_err(|error| not_embedded(&error))
    }

    fn embedding_tokens_max(&self) -> u32 {
        Embedder::tokens_max(&self.model)
    }

    fn set_threads(&mut self, threads: u32, decode: u32) {
        self.context.set_threads(threads, decode);
        if let Some(draft) = &mut self.draft {
            draft.set_threads(threads, decode);
        }
    }
}

impl Backend for LlamaModelBackend {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn set_chat(&mut self, chat: ChatAbilities) {
        self.info.chat = chat;
    }

    fn adapters(&self) -> &[LoadedAdapter] {
        self.adapters.known()
    }

    fn media(&mut self) -> Option<&mut dyn MediaDecoder> {
        self.media
            .is_some()
            .then_some(self as &mut dyn MediaDecoder)
    }

    fn media_ref(&self) -> Option<&dyn MediaDecoder> {
        self.media.is_some().then_some(self as &dyn MediaDecoder)
    }

    fn draft(&mut self, tokens: &[Token], most: usize) -> Vec<Token> {
        let draft = self.draft.as_mut();
        draft.map_or_else(Vec::new, |draft| draft.draft(tokens, most))
    }

    fn release_draft(&mut self) {
        if self.draft.take().is_some() {
            super::trim();
        }
    }

    fn shrink(&mut self, is_empty: bool) {
        self.embedder = None;
        if let Some(media) = &mut self.media {
            media.trim();
        }
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
