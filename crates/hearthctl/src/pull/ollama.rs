//! Models of an Ollama registry: the manifest of a tag lists the blobs by their digests
//! (OCI distribution specification, `/v2/REPO/manifests/TAG` and
//! `/v2/REPO/blobs/DIGEST`).

use hearth_proto::FailureKind;
use reqwest::Url;
use serde::Deserialize;

use super::http::Http;
use super::{Remote, Source};
use crate::error::{CtlError, Result};
use crate::progress::Progress;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const MODEL: &str = "application/vnd.ollama.image.model";
const PROJECTOR: &str = "application/vnd.ollama.image.projector";
/// Layers that extend a model and are not supported, with a description.
const UNSUPPORTED: [(&str, &str); 1] = [("application/vnd.ollama.image.adapter", "adapter")];

/// The manifest of a tag.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    layers: Vec<Layer>,
}

/// One layer of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    digest: String,
    /// Size in bytes.
    pub size: u64,
}

impl Manifest {
    /// The layer with the model weights, and a note about layers that are ignored.
    ///
    /// # Errors
    /// `ModelNotFound`.
    pub fn model(&self, name: &str) -> Result<(Layer, Option<String>)> {
        let is = |layer: &&Layer, media: &str| layer.media_type == media;
        let mut models = self.layers.iter().filter(|l| is(l, MODEL));
        let layer = models.next().filter(|layer| layer.sha256().is_some());
        let layer = layer.ok_or_else(|| {
            let message = format!("{name} has no model in a supported format");
            CtlError::service(FailureKind::ModelNotFound, message)
        })?;
        let ignored = UNSUPPORTED
            .iter()
            .filter(|(media, _)| self.layers.iter().any(|l| is(&l, media)));
        let ignored: Vec<&str> = ignored.map(|(_, what)| *what).collect();
        let note = format!(
            "ignored, because Hearthd does not support it: {}",
            ignored.join(", ")
        );
        Ok((layer.clone(), Some(note).filter(|_| !ignored.is_empty())))
    }

    /// The layer with the projector, if the model takes pictures.
    pub fn projector(&self) -> Option<&Layer> {
        let mut layers = self.layers.iter();
        layers.find(|layer| layer.media_type == PROJECTOR && layer.sha256().is_some())
    }
}

impl Layer {
    /// Its SHA-256 in hexadecimal digits.
    pub fn sha256(&self) -> Option<&str> {
        let digits = self.digest.strip_prefix("sha256:")?;
        let good = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        good.then_some(digits)
    }
}

/// Looks up a tag.
pub async fn find(
    http: &Http,
    (registry, repo, tag): (&Url, &str, &str),
    progress: &Progress,
) -> Result<Source> {
    let address = |path: String| {
        let joined = registry.join(&path);
        joined.map_err(|e| CtlError::Usage(format!("{registry}{path}: {e}")))
    };
    let url = address(format!("v2/{repo}/manifests/{tag}"))?;
    let response = http.document::<Manifest>(&url, None, MANIFEST, progress);
    let (manifest, _) = response.await?;
    let short = short_name(repo, tag);
    let (layer, note) = manifest.model(&short)?;
    if let Some(note) = note {
        progress.note(&note);
    }
    let remote = |layer: &Layer, file_name: String| -> Result<Remote> {
        Ok(Remote {
            url: address(format!("v2/{repo}/blobs/{}", layer.digest))?,
            token: None,
            file_name,
            size: Some(layer.size),
            sha256: layer.sha256().map(str::to_owned),
        })
    };
    let projector = manifest.projector();
    let projector = projector.map(|layer| remote(layer, format!("mmproj-{short}.gguf")));
    Ok(Source {
        parts: vec![remote(&layer, format!("{short}.gguf"))?],
        projector: projector.transpose()?,
        name: short,
    })
}

/// `llama3.2:1b`, without the tag if it is the default.
pub fn short_name(repo: &str, tag: &str) -> String {
    let name = repo.rsplit('/').next().unwrap_or(repo);
    match tag {
        "latest" => name.to_owned(),
        tag => format!("{name}:{tag}"),
    }
}
