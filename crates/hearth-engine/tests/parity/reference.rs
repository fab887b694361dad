//! llama.cpp's library without the engine: one sequence, one thread.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::LazyLock;

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::{LlamaBackend, load_backends_from_path};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use llama_cpp_2::token::LlamaToken;

use crate::{Answer, CONTEXT, TOKENS};

/// Tokens of a batch: the last digits of results depend on it, so it is the engine's
/// (`hearth_proto::EngineShape::micro_batch`, `Limits::prefill_chunk`).
const CHUNK: usize = 128;

/// The library, started.
pub struct Engine(LlamaBackend);

impl Engine {
    /// The library with the engine's kernels; a process can start it once.
    pub fn start() -> &'static Self {
        static STARTED: LazyLock<Engine> = LazyLock::new(|| {
            let engine = Path::new(env!("CARGO_BIN_EXE_hearth-engine"));
            load_backends_from_path(&engine.parent().unwrap().join("hearth-lib"));
            let mut backend = LlamaBackend::init().unwrap();
            backend.void_logs();
            Engine(backend)
        });
        &STARTED
    }
}

/// A loaded model.
pub struct Reference<'a> {
    engine: &'a Engine,
    model: LlamaModel,
}

impl<'a> Reference<'a> {
    pub fn load(engine: &'a Engine, path: &Path) -> Self {
        let model = LlamaModel::load_from_file(&engine.0, path, &LlamaModelParams::default());
        Self {
            engine,
            model: model.unwrap(),
        }
    }

    /// The greedy answer to a text, in a new context.
    pub fn answer(&self, text: &str) -> Answer {
        self.answer_with(text, None)
    }

    /// An adapter of the model.
    pub fn adapter(&mut self, path: &Path) -> LlamaLoraAdapter {
        self.model.lora_adapter_init(path).unwrap()
    }

    /// The same with an adapter at a scale.
    pub fn answer_with(&self, text: &str, adapter: Option<(&mut LlamaLoraAdapter, f32)>) -> Answer {
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(CONTEXT))
            .with_n_batch(u32::try_from(CHUNK).unwrap())
            .with_n_ubatch(u32::try_from(CHUNK).unwrap())
            .with_n_seq_max(1)
            .with_kv_unified(true)
            .with_n_threads(1)
            .with_n_threads_batch(1);
        let mut context = self.model.new_context(&self.engine.0, params).unwrap();
        if let Some((adapter, scale)) = adapter {
            context.lora_adapter_set(adapter, scale).unwrap();
        }
        let mut batch = LlamaBatch::new(CHUNK, 1);
        let vocab = self.model.vocab();
        let mut tokens = vocab.tokenize(text.as_bytes(), true, true);
        let mut answer = Answer {
            prompt: tokens.iter().map(|token| token.0).collect(),
            ..Answer::default()
        };
        let mut bytes = Vec::new();
        let mut done = 0;
        while answer.logprobs.len() < TOKENS {
            for chunk in tokens[done..].chunks(CHUNK) {
                batch.clear();
                for token in chunk {
                    done += 1;
                    let position = i32::try_from(done - 1).unwrap();
                    let is_last = done == tokens.len();
                    batch.add(*token, position, &[0], is_last).unwrap();
                }
                context.decode(&mut batch).unwrap();
            }
            let (token, logprob, gap) = best(context.get_logits_ith(batch.n_tokens() - 1));
            if vocab.is_eog(token) {
                break;
            }
            answer.tokens.push(token.0);
            answer.logprobs.push(logprob);
            answer.gaps.push(gap);
            bytes.extend(vocab.token_to_piece(token, false, None));
            tokens.push(token);
        }
        answer.text = String::from_utf8_lossy(&bytes).into_owned();
        answer
    }
}

/// The likeliest token, the logarithm of its probability, and by how much that is above
/// the next one's.
fn best(logits: &[f32]) -> (LlamaToken, f32, f32) {
    let mut most = (0, f32::NEG_INFINITY);
    let mut next = f32::NEG_INFINITY;
    for (token, logit) in (0..).zip(logits) {
        if *logit > most.1 {
            next = most.1;
            most = (token, *logit);
        } else {
            next = next.max(*logit);
        }
    }
    let sum: f64 = logits.iter().map(|l| f64::from(l - most.1).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
    let norm = most.1 + sum.ln() as f32;
    (LlamaToken(most.0), most.1 - norm, most.1 - next)
}
