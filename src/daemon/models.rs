//! Information about models that needs no engine.

use std::sync::Arc;

use hearth_gguf::Header;
use hearth_gguf::fit::Wanted;
use hearth_proto::{
    EngineShape, Failure, FailureKind, ModelEntry, ModelFeatures, ModelInfo, ModelRef, Use,
};

use super::Daemon;
use crate::engines::ResidentModel;
use crate::models::StoredModel;

/// What the chat layer uses where a model file has no template (`ChatML`).
const CHATML: &str = "{%- for message in messages -%}\n  \
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}\n\
{%- endfor -%}\n{%- if add_generation_prompt -%}\n  {{- '<|im_start|>assistant\\n' -}}\n{%- endif -%}";

/// The settings with which a model is, or would be, served.
#[derive(Clone, Debug, PartialEq)]
pub struct Props {
    /// Its name.
    pub model: String,
    /// Context size in tokens; for a model that is not loaded, the one that it is loaded with
    /// if enough memory is available.
    pub context_size: u32,
    /// Requests that run at once.
    pub slots: u32,
    /// Its chat template, `ChatML` if its file has none.
    pub chat_template: String,
    /// Whether it is loaded.
    pub is_loaded: bool,
    /// Whether it takes pictures.
    pub vision: bool,
    /// Whether it takes sounds.
    pub audio: bool,
    /// What its engine reports; `None` if it is not loaded.
    pub info: Option<ModelInfo>,
}

impl Daemon {
    /// The installed models, by name; adapters are not among them.
    pub async fn models(&self) -> Vec<ModelEntry> {
        let index = self.store.refresh().await;
        let default = self.store.default_name();
        let pool = self.pool.status();
        let entries = index.models().iter().map(|model| {
            let resident = pool.get(&model.name);
            let adapters = index.adapters_of(&model.name).into_iter();
            let found = index.projector_of(model);
            let projector = found.header();
            ModelEntry {
                projector_bytes: found.size_bytes(),
                vision: projector.vision,
                audio: projector.audio,
                is_default: default.as_ref() == Some(&model.name),
                adapters: adapters.map(|adapter| adapter.name.clone()).collect(),
                sha256: self.store.digest(model).unwrap_or_default(),
                ..entry(model, resident)
            }
        });
        let mut entries: Vec<ModelEntry> = entries.collect();
        let derived = index.derived().iter().filter_map(|derived| {
            let base = entries.iter().find(|entry| entry.name == derived.base)?;
            (derived.name != derived.base).then(|| ModelEntry {
                name: derived.name.clone(),
                parent: derived.base.clone(),
                modified_s: derived.modified_s,
                sha256: derived.sha256.clone(),
                packaged: false,
                is_default: false,
                ..base.clone()
            })
        });
        let derived: Vec<ModelEntry> = derived.collect();
        entries.extend(derived);
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// An installed model, by any of its names.
    ///
    /// # Errors
    /// `ModelNotFound`.
    pub async fn model(&self, wanted: &ModelRef) -> Result<ModelEntry, Failure> {
        let mut models = self.models().await.into_iter();
        let name = self.store.find_listed(wanted, Use::Chat)?.name;
        models.find(|model| model.name == name).ok_or_else(|| {
            let message = format!("{name} was removed just now");
            Failure::new(FailureKind::ModelNotFound, message)
        })
    }

    /// Properties of the loaded model, else of the default one, as far as its file's header
    /// and the configuration determine them.
    ///
    /// # Errors
    /// `ModelNotFound`; `ModelInvalid` where its header cannot be read.
    pub async fn props(&self) -> Result<Props, Failure> {
        let config = self.config.get();
        let (pool, threads) = (self.pool.status(), self.board.status().threads_max);
        let (wanted, info) = match pool.first() {
            Some(loaded) => (ModelRef::named(&loaded.name), loaded.info.as_ref()),
            None => (ModelRef::Default, None),
        };
        let model = self.store.find(&wanted).await?;
        let projector = self.store.index().projector_of(&model).header();
        let header = model.header.map_err(|problem| {
            let message = format!("{}: {problem}; import it again", model.name);
            Failure::new(FailureKind::ModelInvalid, message)
        })?;
        Ok(Props {
            context_size: match info {
                Some(info) => info.context_size,
                None => Wanted::from(&*config).settings(&header, threads).context,
            },
            slots: match info {
                Some(info) => info.slots,
                None => config.engine.slots.clamp(1, EngineShape::DEFAULT.slots_max),
            },
            chat_template: header
                .chat_template
                .clone()
                .unwrap_or_else(|| CHATML.to_owned()),
            is_loaded: info.is_some(),
            info: info.cloned(),
            vision: projector.vision,
            audio: projector.audio,
            model: model.name,
        })
    }
}

pub(super) fn entry(model: &StoredModel, resident: Option<&ResidentModel>) -> ModelEntry {
    let (header, problem) = match &model.header {
        Ok(header) => (Arc::clone(header), String::new()),
        Err(problem) => (Arc::<Header>::default(), problem.clone()),
    };
    let known = resident.and_then(|r| r.info.as_ref()).map(|info| info.kind);
    let declared = model.header.as_ref().ok().and_then(|h| h.model_kind());
    ModelEntry {
        kind: known.or(declared),
        loaded: resident.is_some(),
        is_default: false,
        vision: false,
        audio: false,
        name: model.name.clone(),
        size_bytes: model.size_bytes,
        projector_bytes: 0,
        architecture: header.architecture.clone(),
        quantization: header.quantization.clone(),
        context_train: header.context_train,
        parameters: header.parameters,
        packaged: model.packaged,
        modified_s: model.modified_s,
        problem,
        draft: resident.and_then(|r| r.draft.clone()).unwrap_or_default(),
        adapters: Vec::new(),
        bases: Vec::new(),
        parent: String::new(),
        width: header.shape.width,
        features: features(&header, resident),
        sha256: String::new(),
    }
}

/// By the engine, where it has loaded the model: it renders the template.
fn features(header: &Header, resident: Option<&ResidentModel>) -> ModelFeatures {
    let chat = resident.and_then(|r| r.info.as_ref()).map(|info| info.chat);
    ModelFeatures {
        tools: chat.map_or_else(|| header.takes_tools(), |chat| chat.native_tools),
        thinking: chat.map_or_else(|| header.thinks(), |chat| chat.thinking),
        infill: header.infill.is_complete(),
    }
}
