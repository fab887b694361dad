//! The interface between the engine's loop and a model, in three parts: [`Tokenizer`],
//! [`KvStore`] and [`Decoder`]. What needs one of them asks for no more.

mod adapter;
mod choice;
mod decoder;
mod kv_store;
mod media;
mod progress;
mod tokenizer;

use std::sync::Arc;

use hearth_proto::{ChatAbilities, Failure, LoadRequest, ModelInfo};

pub use adapter::LoadedAdapter;
pub use choice::Choice;
pub use decoder::{DecodeError, Decoder, Mask, Part, Sampled, argmax, no_logits};
pub use kv_store::KvStore;
pub use media::{Chunk, EmbeddedPart, MediaDecoder, Medium, Piece};
pub use progress::Progress;
pub use tokenizer::{ChatFormat, InfillTokens, RerankFormat, Token, Tokenizer};

/// A loaded model with a KV cache for several sequences.
pub trait Backend: Tokenizer + KvStore + Decoder {
    /// Facts about the model.
    fn info(&self) -> &ModelInfo;

    /// Sets the capabilities of its chat template.
    fn set_chat(&mut self, chat: ChatAbilities);

    /// The adapters that it was loaded with.
    fn adapters(&self) -> &[LoadedAdapter];

    /// What decodes pictures and sounds; `None` where the model takes none.
    fn media(&mut self) -> Option<&mut dyn MediaDecoder> {
        None
    }

    /// The same, to ask it.
    fn media_ref(&self) -> Option<&dyn MediaDecoder> {
        None
    }

    /// Tokens that a draft model expects after `tokens`, at most `most`; none where there is no
    /// draft model, or nothing to propose.
    fn draft(&mut self, _tokens: &[Token], _most: usize) -> Vec<Token> {
        Vec::new()
    }

    /// Releases the draft model; answers go on without it.
    fn release_draft(&mut self) {}

    /// Releases memory that can be allocated again later. With `is_empty`, nothing in the
    /// KV cache is needed any more, and all of it beyond one context is released, too.
    fn shrink(&mut self, is_empty: bool);
}

/// Creates a [`Backend`] in the process that will run it.
pub trait Loader {
    /// The backend that it creates.
    type Backend: Backend;

    /// Loads the model, reporting progress from 0 to 1.
    ///
    /// # Errors
    /// `ModelNotFound`, `ModelInvalid`, `OutOfMemory`, `Io`, `Internal`.
    fn load(
        &self,
        request: &LoadRequest,
        progress: &Arc<Progress>,
        report: Box<dyn Fn(f32)>,
    ) -> Result<Self::Backend, Failure>;
}
