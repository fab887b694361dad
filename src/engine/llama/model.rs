//! Loading a GGUF and running one sequence of it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::context::{Context, ContextParams};
use super::kernels::Runtime;
use super::sampler::Sampler;
use crate::engine::backend::{Backend, DecodeError, Loader, Progress, Token};
use crate::protocol::{Failure, FailureKind, LoadRequest, ModelInfo, Sampling};

/// Loads models with llama.cpp.
#[derive(Debug)]
pub struct LlamaLoader {
    runtime: Runtime,
}

impl LlamaLoader {
    /// A loader on a started runtime.
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime }
    }
}

/// A loaded model with its context. Field order is drop order: the context goes
/// before the model it points into.
#[derive(Debug)]
pub struct LlamaBackendImpl {
    context: Context,
    sampler: Option<Sampler>,
    defaults: Sampling,
    info: ModelInfo,
    model: LlamaModel,
}

impl Loader for LlamaLoader {
    type Backend = LlamaBackendImpl;

    fn load(
        &self,
        request: &LoadRequest,
        progress: &Arc<Progress>,
        report: Box<dyn Fn(f32)>,
    ) -> Result<LlamaBackendImpl, Failure> {
        #[expect(clippy::disallowed_methods, reason = "the engine measures its own work")]
        let began = Instant::now();
        let path = &request.path;
        check_header(path)?;
        _ = super::log::take_errors();
        let alive = Arc::clone(progress);
        let params = LlamaModelParams::default()
            .with_n_gpu_layers(0)
            .with_progress_callback(move |share| {
                alive.tick();
                report(share);
                true
            });
        let model = LlamaModel::load_from_file(&self.runtime.backend, path, &params)
            .map_err(|_| invalid(path, &super::log::take_errors().join("; ")))?;
        if model.n_vocab() < 1 || model.n_ctx_train() == 0 {
            return Err(invalid(path, "it has no vocabulary or no context length"));
        }

        let context_size = match request.context_size {
            0 => model.n_ctx_train().min(request.context_max),
            n => n,
        };
        let params = ContextParams {
            context_size: context_size.max(8),
            kv_type: request.kv_type,
            threads_max: request.threads_max,
        };
        let mut context = Context::new(&model, &params, progress).ok_or_else(|| {
            Failure::new(
                FailureKind::OutOfMemory,
                format!(
                    "no memory for a context of {context_size} tokens: set a smaller `model.context` \
                     or `model.kv_type = \"q8_0\"` ({})",
                    super::log::take_errors().join("; ")
                ),
            )
        })?;
        context.set_threads(request.limits.threads);
        let info = ModelInfo {
            description: model
                .meta_val_str("general.name")
                .unwrap_or_else(|_| model.meta_val_str("general.architecture").unwrap_or_default()),
            parameters: model.n_params(),
            size_bytes: model.size(),
            context_size: context.size(),
            context_train: model.n_ctx_train(),
            vocab_size: model.n_vocab().cast_unsigned(),
            cpu: self.runtime.cpu().to_owned(),
            has_chat_template: model.chat_template(None).is_ok(),
            load_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let defaults = defaults(&model, &request.sampling);
        Ok(LlamaBackendImpl {
            context,
            sampler: None,
            defaults,
            info,
            model,
        })
    }
}

/// What llama.cpp's loader would only say in its log: is this a GGUF at all?
fn check_header(path: &Path) -> Result<(), Failure> {
    let mut file = File::open(path).map_err(|e| {
        Failure::new(
            FailureKind::ModelNotFound,
            format!("cannot open the model file {}: {e}", path.display()),
        )
    })?;
    let mut magic = Vec::new();
    _ = file.by_ref().take(4).read_to_end(&mut magic);
    if magic == b"GGUF" {
        return Ok(());
    }
    Err(invalid(
        path,
        &if magic.is_empty() {
            "the file is empty".to_owned()
        } else {
            format!(
                "it is not a GGUF file (it begins with {:?}, a GGUF begins with \"GGUF\")",
                String::from_utf8_lossy(&magic)
            )
        },
    ))
}

fn invalid(path: &Path, why: &str) -> Failure {
    let why = if why.is_empty() { "llama.cpp cannot load it" } else { why };
    Failure::new(
        FailureKind::ModelInvalid,
        format!("{} is not a usable model: {why}", path.display()),
    )
}

/// The model file's own recommendation goes before the config's.
fn defaults(model: &LlamaModel, config: &Sampling) -> Sampling {
    let number = |key: &str| {
        let text = model.meta_val_str(&format!("general.sampling.{key}")).ok()?;
        text.parse::<f32>().ok().filter(|n| n.is_finite())
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as saturates")]
    let top_k = number("top_k").map(|k| k as u32);
    Sampling {
        temperature: number("temp").or(config.temperature),
        top_k: top_k.or(config.top_k),
        top_p: number("top_p").or(config.top_p),
        min_p: number("min_p").or(config.min_p),
        repeat_penalty: number("penalty_repeat").or(config.repeat_penalty),
        ..config.clone()
    }
}

impl Backend for LlamaBackendImpl {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn template(&self) -> (Option<String>, String, String) {
        let vocab = self.model.vocab();
        let text = |token: LlamaToken| {
            if token.0 < 0 {
                return String::new();
            }
            let bytes = vocab.token_to_piece(token, true, None);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let source = self.model.chat_template(None).ok();
        let source = source.and_then(|t| t.to_string().ok());
        (source, text(vocab.bos()), text(vocab.eos()))
    }

    fn tokenize(&self, text: &str, special: bool) -> Vec<Token> {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), true, special);
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
        let is_control = vocab.is_control(token);
        vocab.token_to_piece(token, !is_control, None)
    }

    fn is_end(&self, token: Token) -> bool {
        self.model.vocab().is_eog(LlamaToken(token))
    }

    fn clear(&mut self) {
        self.context.clear();
    }

    fn decode(&mut self, tokens: &[Token], position: u32) -> Result<(), DecodeError> {
        self.context.decode(tokens, position)
    }

    fn begin_sampling(&mut self, sampling: &Sampling, prompt: &[Token]) -> Result<(), Failure> {
        let d = &self.defaults;
        let resolved = Sampling {
            temperature: sampling.temperature.or(d.temperature),
            top_k: sampling.top_k.or(d.top_k),
            top_p: sampling.top_p.or(d.top_p),
            min_p: sampling.min_p.or(d.min_p),
            repeat_penalty: sampling.repeat_penalty.or(d.repeat_penalty),
            repeat_last_n: sampling.repeat_last_n.or(d.repeat_last_n),
            presence_penalty: sampling.presence_penalty.or(d.presence_penalty),
            frequency_penalty: sampling.frequency_penalty.or(d.frequency_penalty),
            seed: sampling.seed.or(d.seed),
        };
        self.sampler = Some(Sampler::new(&self.model, &resolved, prompt)?);
        Ok(())
    }

    fn sample(&mut self) -> Token {
        let logits = self.context.logits();
        let chosen = self.sampler.as_mut().and_then(|s| s.choose(logits));
        // Without logits there is nothing to choose: end the answer.
        chosen.unwrap_or_else(|| self.model.vocab().eos().0)
    }

    fn set_threads(&mut self, threads: u32) {
        self.context.set_threads(threads);
    }
}
