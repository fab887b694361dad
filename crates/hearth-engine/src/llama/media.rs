//! Pictures and sounds: a projector beside the model, by llama.cpp's multimodal library.

use std::path::Path;
use std::sync::Arc;

use hearth_proto::{Failure, FailureKind, MediaKind, ModelInfo, ModelKind};
use llama_cpp_2::model::LlamaModel;

use super::media_data::{Data, decode_picture, decode_sound};
use super::media_ffi::{self, Chunks, Input, Projector};
use super::model::LlamaModelBackend;
use crate::backend::{Chunk, DecodeError, EmbeddedPart, MediaDecoder, Medium, Piece, Progress};

/// A loaded projector. It must not outlive its model: the owner drops it first.
#[derive(Debug)]
pub(super) struct MediaLibrary {
    projector: Projector,
    facts: media_ffi::Facts,
    marker: String,
    /// The medium that was prepared last, by its hash: a large picture has several pieces,
    /// which are encoded one after the other.
    prepared: Option<([u8; 32], Chunks)>,
    progress: Arc<Progress>,
}

impl MediaLibrary {
    /// Loads the projector at `path` for a model.
    ///
    /// # Errors
    /// `ModelInvalid` where it is damaged or belongs to another model; `OutOfMemory`.
    pub(super) fn load(
        path: &Path,
        model: Option<&LlamaModel>,
        threads: u32,
        progress: &Arc<Progress>,
    ) -> Result<Self, Failure> {
        let marker = marker();
        _ = super::log::take_errors();
        let projector = Projector::load(path, model, &marker, threads.max(1), progress);
        let projector = projector.map_err(|error| {
            let why = explain(&error);
            let kind = if why.contains("memory") || why.contains("allocate") {
                FailureKind::OutOfMemory
            } else {
                FailureKind::ModelInvalid
            };
            let message = format!(
                "{} cannot be used as the model's projector: {why}",
                path.display()
            );
            Failure::new(kind, message)
        })?;
        Ok(Self {
            facts: projector.facts(),
            projector,
            marker,
            prepared: None,
            progress: Arc::clone(progress),
        })
    }

    pub(super) fn facts(&self) -> media_ffi::Facts {
        self.facts
    }

    pub(super) fn set_threads(&mut self, threads: u32) {
        self.projector.set_threads(threads.max(1));
    }

    /// Frees a prepared medium.
    pub(super) fn trim(&mut self) {
        self.prepared = None;
    }

    fn check(&self, kind: MediaKind) -> Result<(), Failure> {
        let (can, what) = match kind {
            MediaKind::Picture => (self.facts.vision, "pictures"),
            MediaKind::Sound => (self.facts.audio, "sounds"),
        };
        if can {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::NotSupported,
            format!("the model's projector takes no {what}: leave them out, or use another model"),
        ))
    }

    fn samples(&self, medium: &Medium) -> Result<Data<f32>, Failure> {
        let samples = decode_sound(&medium.bytes, self.facts.sample_rate);
        samples.map_err(|why| Failure::invalid(format!("a sound cannot be used: {why}")))
    }

    /// The parts of a prompt that is nothing but this medium, with its contents.
    fn prepare(&self, medium: &Medium) -> Result<Chunks, Failure> {
        let layout = |input| {
            let chunks = self.projector.layout(&self.marker, false, &[input]);
            chunks.map_err(|error| unusable(medium.kind, &explain(&error)))
        };
        match medium.kind {
            MediaKind::Picture => {
                let (width, height) = medium.size;
                let pixels = decode_picture(&medium.bytes, width, height)
                    .map_err(|why| Failure::invalid(format!("a picture cannot be used: {why}")))?;
                layout(Input::Picture(width, height, Some(pixels.as_slice())))
            }
            MediaKind::Sound => layout(Input::Sound(self.samples(medium)?.as_slice())),
        }
    }

    /// The parts in `chunks`, of which each medium in `media` has one or more. `pieces` says
    /// how many.
    fn parts(&self, chunks: &Chunks, pieces: &[u32]) -> Result<Vec<Chunk>, Failure> {
        let mut owners = (0..)
            .zip(pieces)
            .flat_map(|(medium, count)| (0..*count).map(move |index| (medium, index)));
        let mut first = 0;
        let part = |at| {
            let chunk = self.projector.chunk(chunks, at);
            match chunk.ok_or_else(|| internal("a part of the prompt is missing"))? {
                media_ffi::Chunk::Text(tokens) => {
                    first += crate::as_u32(tokens.len());
                    Ok(Chunk::Text(tokens))
                }
                media_ffi::Chunk::Media {
                    tokens,
                    positions,
                    is_whole,
                    has_grid,
                } => {
                    let owner = owners.next();
                    let (medium, index) = owner.ok_or_else(|| internal("a part has no picture"))?;
                    let grid = if has_grid {
                        chunks.positions(at, first, tokens)
                    } else {
                        Vec::new()
                    };
                    first += positions;
                    let piece = Piece {
                        tokens,
                        positions,
                        is_whole,
                        grid,
                    };
                    Ok(Chunk::Media {
                        medium,
                        index,
                        piece,
                    })
                }
            }
        };
        (0..chunks.len()).map(part).collect()
    }

    fn layout(&self, text: &str, add_bos: bool, media: &[&Medium]) -> Result<Vec<Chunk>, Failure> {
        let mut sounds = Vec::new();
        for medium in media {
            self.check(medium.kind)?;
            sounds.push(match medium.kind {
                MediaKind::Picture => None,
                MediaKind::Sound => Some(self.samples(medium)?),
            });
        }
        let inputs: Vec<Input<'_>> = media
            .iter()
            .zip(&sounds)
            .map(|(medium, samples)| match samples {
                Some(samples) => Input::Sound(samples.as_slice()),
                None => Input::Picture(medium.size.0, medium.size.1, None),
            })
            .collect();
        // The library computes a sound's spectrum each time: once is enough where it is alone.
        if let ([medium], [_]) = (media, inputs.as_slice()) {
            let chunks = self.projector.layout(text, add_bos, &inputs);
            let chunks = chunks.map_err(|error| unusable(medium.kind, &explain(&error)))?;
            return self.parts(&chunks, &[self.count(&chunks)]);
        }
        let mut pieces = Vec::new();
        for (medium, input) in media.iter().zip(&inputs) {
            let alone = self.projector.layout(&self.marker, false, &[*input]);
            let alone = alone.map_err(|error| unusable(medium.kind, &explain(&error)))?;
            pieces.push(self.count(&alone));
        }
        let chunks = self.projector.layout(text, add_bos, &inputs);
        let chunks = chunks.map_err(|error| internal(&explain(&error)))?;
        self.parts(&chunks, &pieces)
    }

    /// How many parts are pictures or sounds.
    fn count(&self, chunks: &Chunks) -> u32 {
        crate::as_u32(media_parts(&self.projector, chunks).count())
    }

    fn encode(&mut self, medium: &Medium, index: u32) -> Result<Vec<f32>, Failure> {
        if self
            .prepared
            .as_ref()
            .is_none_or(|(hash, _)| *hash != medium.hash)
        {
            self.prepared = None;
            self.prepared = Some((medium.hash, self.prepare(medium)?));
        }
        let Some((hash, chunks)) = self.prepared.take() else {
            return Err(internal("the picture is missing"));
        };
        let mut places = media_parts(&self.projector, &chunks).skip(index as usize);
        let (at, next) = (places.next(), places.next());
        drop(places);
        let at = at.ok_or_else(|| internal("the picture has fewer parts than expected"))?;
        let embeddings = self.projector.encode(&chunks, at);
        if next.is_some() {
            self.prepared = Some((hash, chunks));
        }
        if self.progress.is_abort() {
            return Err(Failure::cancelled());
        }
        embeddings.map_err(|error| internal(&explain(&error)))
    }
}

/// The places of the parts that are pictures or sounds.
fn media_parts<'a>(
    projector: &'a Projector,
    chunks: &'a Chunks,
) -> impl Iterator<Item = usize> + use<'a> {
    (0..chunks.len()).filter(|at| {
        let chunk = projector.chunk(chunks, *at);
        matches!(chunk, Some(media_ffi::Chunk::Media { .. }))
    })
}

impl MediaDecoder for LlamaModelBackend {
    fn marker(&self) -> &str {
        self.media.as_ref().map_or("", |media| &media.marker)
    }

    fn layout(&self, text: &str, add_bos: bool, media: &[&Medium]) -> Result<Vec<Chunk>, Failure> {
        self.library()?.layout(text, add_bos, media)
    }

    fn encode(&mut self, medium: &Medium, index: u32) -> Result<Vec<f32>, Failure> {
        let threads = self.context.threads().0;
        let media = self.media.as_mut().ok_or_else(no_projector)?;
        media.set_threads(threads);
        media.encode(medium, index)
    }

    fn decode_part(&mut self, part: &EmbeddedPart<'_>) -> Result<(), DecodeError> {
        let width = self.media.as_ref().map_or(0, |media| media.facts.width);
        self.context.decode_embeddings(part, width as usize)
    }
}

impl LlamaModelBackend {
    fn library(&self) -> Result<&MediaLibrary, Failure> {
        self.media.as_ref().ok_or_else(no_projector)
    }
}

/// The refusal where a model has no projector.
pub(crate) fn no_projector() -> Failure {
    Failure::new(
        FailureKind::NotSupported,
        "the model takes no pictures or sounds: install a model with its projector (an mmproj \
         file: `hearthctl import --projector MMPROJ FILE`), or leave them out",
    )
}

/// Loads a projector by itself, to see whether it can be loaded.
///
/// # Errors
/// `ModelInvalid`, `OutOfMemory`.
pub fn check_projector(_: &super::Runtime, path: &Path) -> Result<ModelInfo, Failure> {
    let library = MediaLibrary::load(path, None, 1, &Arc::default())?;
    let header = super::header(path)?;
    Ok(ModelInfo {
        description: "projector".to_owned(),
        kind: ModelKind::Part,
        size_bytes: header.weight_bytes(),
        parameters: header.parameters,
        vision: library.facts.vision,
        audio: library.facts.audio,
        ..ModelInfo::default()
    })
}

/// A failure, with what llama.cpp logged about it.
fn explain(error: &str) -> String {
    let logged = super::log::take_errors().join("; ");
    if logged.is_empty() {
        error.to_owned()
    } else {
        format!("{error} ({logged})")
    }
}

fn unusable(kind: MediaKind, why: &str) -> Failure {
    let what = match kind {
        MediaKind::Picture => "a picture",
        MediaKind::Sound => "a sound",
    };
    Failure::invalid(format!("{what} cannot be used: {why}"))
}

fn internal(why: &str) -> Failure {
    Failure::new(
        FailureKind::Internal,
        format!("pictures or sounds failed: {why}"),
    )
}

/// A text that no client can know, and which no tokenizer has to read: it is cut out of the
/// prompt before.
fn marker() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = || RandomState::new().hash_one(0);
    format!("<__media_{:016x}{:016x}__>", random(), random())
}
