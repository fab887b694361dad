//! Information about models that needs no engine.

use super::Service;
use super::types::ModelEntry;
use crate::fit::Wanted;
use crate::gguf::Header;
use crate::protocol::{EngineShape, Failure, FailureKind};

/// What the chat layer uses where a model file has no template (`ChatML`).
const CHATML: &str = "{%- for message in messages -%}\n  \
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}\n\
{%- endfor -%}\n{%- if add_generation_prompt -%}\n  {{- '<|im_start|>assistant\\n' -}}\n{%- endif -%}";

/// The settings with which a model is, or would be, served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Props {
    /// Its name.
    pub model: String,
    /// Tokens of one conversation; if the model is not loaded, those that it is loaded with
    /// if the memory allows.
    pub context_size: u32,
    /// Requests that run at once.
    pub slots: u32,
    /// Its chat template, `ChatML` if its file has none.
    pub chat_template: String,
    /// Whether it is in memory.
    pub is_loaded: bool,
}

impl Service {
    /// The installed models, by name.
    pub fn models(&self) -> Vec<ModelEntry> {
        let default = self.shared.store.resolve("", &self.config().model.default);
        let default = default.map(|m| m.name).unwrap_or_default();
        let (loaded, known) = {
            let inner = self.lock();
            let known = inner
                .engine
                .as_ref()
                .and_then(|e| e.info.as_ref())
                .map(|i| i.kind);
            (inner.loaded_model().map(str::to_owned), known)
        };
        let entries = self.shared.store.list().into_iter().map(|model| {
            let is_loaded = loaded.as_deref() == Some(&model.name);
            let told = model.header.as_ref().ok().and_then(Header::model_kind);
            let (header, problem) = match model.header {
                Ok(header) => (header, String::new()),
                Err(problem) => (Header::default(), problem),
            };
            ModelEntry {
                kind: known.filter(|_| is_loaded).or(told),
                loaded: is_loaded,
                is_default: default == model.name,
                name: model.name,
                size_bytes: model.size_bytes,
                architecture: header.architecture,
                quantization: header.quantization,
                context_train: header.context_train,
                parameters: header.parameters,
                packaged: model.packaged,
                modified_s: model.modified_s,
                problem,
            }
        });
        entries.collect()
    }

    /// Properties of the loaded model, else of the default one, as far as its file's header
    /// and the configuration determine them.
    ///
    /// # Errors
    /// `ModelNotFound`; `ModelInvalid` where its header cannot be read.
    pub fn props(&self) -> Result<Props, Failure> {
        let config = self.config();
        let (loaded, info, threads) = {
            let inner = self.lock();
            let info = inner.engine.as_ref().and_then(|engine| engine.info.clone());
            let loaded = inner.loaded_model().map(str::to_owned);
            (loaded, info, inner.threads_max())
        };
        let name = loaded.as_deref().unwrap_or_default();
        let model = self.shared.store.resolve(name, &config.model.default)?;
        let header = model.header.map_err(|problem| {
            let message = format!("{}: {problem}; import it again", model.name);
            Failure::new(FailureKind::ModelInvalid, message)
        })?;
        Ok(Props {
            context_size: match &info {
                Some(info) => info.context_size,
                None => Wanted::from(&*config).settings(&header, threads).context,
            },
            slots: match &info {
                Some(info) => info.slots,
                None => config.engine.slots.clamp(1, EngineShape::DEFAULT.slots_max),
            },
            chat_template: header.chat_template.unwrap_or_else(|| CHATML.to_owned()),
            is_loaded: info.is_some(),
            model: model.name,
        })
    }
}
