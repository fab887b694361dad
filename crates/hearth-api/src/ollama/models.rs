//! Descriptions of models.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_proto::{ModelEntry, ModelKind};
use serde::Serialize;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::timestamp;
use crate::encode::value;

/// The tag of a name without one.
const LATEST: &str = ":latest";
/// The expiry time of a model that stays for ever: a hundred years from now.
const FOREVER: Duration = Duration::from_hours(100 * 365 * 24);

/// A model's name without Ollama's default tag.
pub fn name_of(name: &str) -> &str {
    name.strip_suffix(LATEST).unwrap_or(name)
}

/// A model's name in the form for Ollama's clients: with a tag.
pub fn tagged(name: &str) -> String {
    if name.contains(':') {
        name.to_owned()
    } else {
        format!("{name}{LATEST}")
    }
}

#[derive(Serialize)]
struct Tag<'a> {
    name: &'a str,
    model: &'a str,
    modified_at: String,
    size: u64,
    digest: String,
    details: Details<'a>,
    capabilities: Vec<&'static str>,
}

#[derive(Serialize)]
struct Process<'a> {
    name: &'a str,
    model: &'a str,
    size: u64,
    digest: String,
    details: Details<'a>,
    expires_at: String,
    /// There is no video memory, only the board's memory.
    size_vram: u64,
    context_length: u32,
    /// The draft model in memory with it; not among Ollama's fields.
    #[serde(skip_serializing_if = "str::is_empty")]
    draft: &'a str,
}

/// Family, size and quantization of a model.
#[derive(Serialize)]
pub(super) struct Details<'a> {
    parent_model: &'a str,
    format: &'static str,
    family: &'a str,
    families: Vec<&'a str>,
    parameter_size: String,
    quantization_level: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    context_length: u32,
    #[serde(skip_serializing_if = "is_zero")]
    embedding_length: u32,
    /// The adapters that a request may name; not among Ollama's fields.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    adapters: &'a [String],
}

/// An installed model in `/api/tags`.
pub fn tag(model: &ModelEntry) -> Value {
    let name = &tagged(&model.name);
    value(&Tag {
        name,
        model: name,
        modified_at: modified_at(model),
        size: model.total_bytes(),
        digest: digest(model),
        details: details(model),
        capabilities: capabilities(model),
    })
}

/// A model in memory, in `/api/ps`. It expires this long after `now`; `None`: never.
pub fn process(
    model: &ModelEntry,
    context_size: u32,
    now: SystemTime,
    stays: Option<Duration>,
) -> Value {
    let name = &tagged(&model.name);
    value(&Process {
        name,
        model: name,
        size: model.total_bytes(),
        digest: digest(model),
        details: details(model),
        expires_at: timestamp(now + stays.unwrap_or(FOREVER).min(FOREVER)),
        size_vram: 0,
        context_length: context_size,
        draft: &model.draft,
    })
}

/// In Ollama's terms; it has none for a model that cannot be used.
pub(super) fn capabilities(model: &ModelEntry) -> Vec<&'static str> {
    let is_chat = matches!(model.kind, None | Some(ModelKind::Chat));
    let completes = is_chat || model.kind == Some(ModelKind::Base);
    let all = [
        (completes, "completion"),
        (is_chat && model.features.tools, "tools"),
        (is_chat && model.features.thinking, "thinking"),
        (completes && model.features.infill, "insert"),
        (model.vision, "vision"),
        (model.audio, "audio"),
        (model.kind == Some(ModelKind::Embedding), "embedding"),
    ];
    let has = all.into_iter().filter(|(has, _)| *has);
    has.map(|(_, name)| name).collect()
}

pub(super) fn details(model: &ModelEntry) -> Details<'_> {
    let family = model.architecture.as_str();
    Details {
        parent_model: &model.parent,
        format: "gguf",
        family,
        families: Some(family).filter(|f| !f.is_empty()).into_iter().collect(),
        parameter_size: parameter_size(model.parameters),
        quantization_level: &model.quantization,
        context_length: model.context_train,
        embedding_length: model.width,
        adapters: &model.adapters,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "for serde")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

pub(super) fn modified_at(model: &ModelEntry) -> String {
    timestamp(UNIX_EPOCH + Duration::from_secs(model.modified_s))
}

/// The SHA-256 of the file; until it is known, what identifies this version of it.
fn digest(model: &ModelEntry) -> String {
    if !model.sha256.is_empty() {
        return model.sha256.clone();
    }
    let state = format!("{}\n{}\n{}", model.name, model.size_bytes, model.modified_s);
    let half = |seed| xxh3_128_with_seed(state.as_bytes(), seed);
    format!("{:032x}{:032x}", half(0), half(1))
}

#[expect(clippy::cast_precision_loss, reason = "rounded anyway")]
fn parameter_size(parameters: u64) -> String {
    let p = parameters as f64;
    match parameters {
        0 => String::new(),
        1_000_000_000.. => format!("{:.1}B", p / 1e9),
        1_000_000.. => format!("{:.2}M", p / 1e6),
        1_000.. => format!("{:.2}K", p / 1e3),
        _ => parameters.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::ModelFeatures;
    use serde_json::json;

    use super::*;

    fn model() -> ModelEntry {
        ModelEntry {
            name: "small".into(),
            size_bytes: 5_000,
            architecture: "qwen2".into(),
            quantization: "Q8_0".into(),
            context_train: 2048,
            parameters: 494_032_768,
            kind: Some(ModelKind::Chat),
            loaded: true,
            is_default: true,
            modified_s: 60,
            width: 896,
            ..ModelEntry::default()
        }
    }

    #[test]
    fn names_have_a_tag() {
        assert_eq!(tagged("small"), "small:latest");
        assert_eq!(tagged("qwen:0.5b"), "qwen:0.5b");
        assert_eq!(name_of("small:latest"), "small");
        assert_eq!(name_of("qwen:0.5b"), "qwen:0.5b");
    }

    #[test]
    fn sizes() {
        for (parameters, text) in [
            (0, ""),
            (7, "7"),
            (1_800, "1.80K"),
            (494_032_768, "494.03M"),
            (7_615_616_512, "7.6B"),
        ] {
            assert_eq!(parameter_size(parameters), text);
        }
    }

    #[test]
    fn lists_and_details() {
        let tag = tag(&model());
        assert_eq!(
            (&tag["model"], &tag["modified_at"]),
            (
                &json!("small:latest"),
                &json!("1970-01-01T00:01:00.000000Z")
            )
        );
        let digest = tag["digest"].as_str().unwrap();
        assert!(digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(tag["details"]["parameter_size"], "494.03M");
        assert_eq!(tag["details"].get("adapters"), None);
        let ends = |stays| process(&model(), 512, UNIX_EPOCH, stays)["expires_at"].take();
        assert_eq!(
            ends(Some(Duration::from_secs(5))),
            "1970-01-01T00:00:05.000000Z"
        );
        assert_eq!(ends(None), "2069-12-07T00:00:00.000000Z");
        assert_eq!(tag["details"]["context_length"], 2048);
        assert_eq!(tag["details"]["embedding_length"], 896);
        assert_eq!(
            process(&model(), 9, UNIX_EPOCH, None)["digest"],
            tag["digest"]
        );
        let known = ModelEntry {
            sha256: "ab".repeat(32),
            ..model()
        };
        assert_eq!(super::tag(&known)["digest"], "ab".repeat(32));
    }

    #[test]
    fn capabilities_are_those_of_the_file() {
        let all = ModelFeatures {
            tools: true,
            thinking: true,
            infill: true,
        };
        let none = ModelFeatures::default();
        for (kind, features, expected) in [
            (None, none, &["completion"][..]),
            (Some(ModelKind::Chat), none, &["completion"]),
            (
                Some(ModelKind::Chat),
                all,
                &["completion", "tools", "thinking", "insert"],
            ),
            (Some(ModelKind::Base), all, &["completion", "insert"]),
            (Some(ModelKind::Embedding), all, &["embedding"]),
            (Some(ModelKind::EncoderDecoder), all, &[]),
        ] {
            let model = ModelEntry {
                kind,
                features,
                ..model()
            };
            assert_eq!(capabilities(&model), expected, "{kind:?}");
        }
        let seeing = ModelEntry {
            vision: true,
            audio: true,
            ..model()
        };
        let listed = tag(&seeing)["capabilities"].take();
        assert_eq!(listed, json!(["completion", "vision", "audio"]));
    }
}
