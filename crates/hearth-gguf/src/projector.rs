//! Projectors: files that turn pictures and sounds into embeddings for a text model.

use std::io::Read;

use hearth_proto::units::Bytes;

use super::read::{BOOL, flag, numbers, skip};
use super::{GgufError, Header};

/// Embeddings that the engine keeps of pictures that it has encoded.
const EMBEDDINGS: Bytes = Bytes::mib(32);
/// Pixels of a picture while it is decoded and scaled, or samples of a sound with their
/// spectrum.
const PIXELS: Bytes = Bytes::mib(64);
/// The most that decoding takes in addition: a picture of the largest size that is accepted,
/// or a sound of the greatest length.
const PIXELS_MAX: Bytes = Bytes::mib(192);
/// Vectors in which encoders of sounds compute 30 seconds at once (Whisper's, and those made
/// like it).
const SOUND_POSITIONS: u64 = 1500;

/// What the header of a projector contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProjectorHeader {
    /// Whether it takes pictures.
    pub vision: bool,
    /// Whether it takes sounds.
    pub audio: bool,
    /// `projection_dim`: the width of the embeddings of its text model; 0 where unknown.
    pub text_width: u32,
    /// `image_size`: pixels on a side of what is encoded at once.
    pub side: u32,
    /// `patch_size`: pixels on a side of a patch.
    pub patch: u32,
    /// `embedding_length`: width of a patch's vector.
    pub width: u32,
    /// `feed_forward_length`.
    pub feed_forward: u32,
}

/// Reads one key of a projector.
pub(super) fn pair(
    from: &mut impl Read,
    key: &str,
    kind: u32,
    header: &mut Header,
) -> Result<(), GgufError> {
    let projector = header.projector.get_or_insert_default();
    let name = key.strip_prefix("clip.").unwrap_or(key);
    match name {
        "has_vision_encoder" if kind == BOOL => projector.vision = flag(from)?,
        "has_audio_encoder" if kind == BOOL => projector.audio = flag(from)?,
        _ => {
            let Some(field) = field(projector, name) else {
                return skip(from, kind).map(drop);
            };
            // With both, the encoder of pictures is the larger one.
            let value = numbers(from, kind)?.into_iter().max().unwrap_or(0);
            *field = value.max(*field);
        }
    }
    Ok(())
}

fn field<'a>(projector: &'a mut ProjectorHeader, name: &str) -> Option<&'a mut u32> {
    let (_, name) = name.split_once('.')?;
    Some(match name {
        "projection_dim" => &mut projector.text_width,
        "image_size" => &mut projector.side,
        "patch_size" => &mut projector.patch,
        "embedding_length" => &mut projector.width,
        "feed_forward_length" => &mut projector.feed_forward,
        _ => return None,
    })
}

impl Header {
    /// Whether the file is a projector.
    pub fn is_projector(&self) -> bool {
        self.projector.is_some() && (self.kind == "mmproj" || self.architecture == "clip")
    }
}

impl ProjectorHeader {
    /// Whether it can belong to a text model with embeddings of this width.
    pub fn fits(&self, width: u32) -> bool {
        self.text_width == 0 || self.text_width == width
    }

    /// Activations of one encoding: those of a block, of all patches or positions at once, in
    /// 32 bits.
    fn compute(&self) -> u64 {
        let side = u64::from(self.side.checked_div(self.patch).unwrap_or(0));
        let sound = if self.audio { SOUND_POSITIONS } else { 0 };
        let (width, feed_forward) = (u64::from(self.width), u64::from(self.feed_forward));
        (side * side).max(sound) * (8 * width + 2 * feed_forward) * 4
    }
}

/// The memory that a projector takes: its weights, which are not mapped, what an encoding
/// needs, and the embeddings that are kept. Zero where the header is not a projector's.
pub fn projector_memory(header: &Header) -> Bytes {
    let Some(projector) = &header.projector else {
        return Bytes(0);
    };
    let parts = [
        header.weight_bytes(),
        projector.compute(),
        EMBEDDINGS.0,
        PIXELS.0,
    ];
    Bytes(parts.into_iter().fold(0, u64::saturating_add))
}

/// The most that it may allocate: [`projector_memory`], and more for the largest picture.
pub fn projector_memory_max(header: &Header) -> Bytes {
    let memory = projector_memory(header);
    if memory.0 == 0 {
        return memory;
    }
    // As for a model, the estimate is not exact.
    Bytes(
        memory
            .0
            .saturating_add(memory.0 / 4)
            .saturating_add(PIXELS_MAX.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_grows_with_the_patches() {
        let header = |side| Header {
            projector: Some(ProjectorHeader {
                vision: true,
                side,
                patch: 16,
                width: 768,
                feed_forward: 3072,
                text_width: 576,
                ..ProjectorHeader::default()
            }),
            ..Header::default()
        };
        let small = projector_memory(&header(256));
        let large = projector_memory(&header(512));
        assert!(small.0 > EMBEDDINGS.0 + PIXELS.0);
        assert_eq!(
            large.0 - EMBEDDINGS.0 - PIXELS.0,
            4 * (small.0 - EMBEDDINGS.0 - PIXELS.0)
        );
        assert!(projector_memory_max(&header(256)) > small);
        assert_eq!(projector_memory_max(&Header::default()), Bytes(0));
        let fits = |width| header(256).projector.unwrap().fits(width);
        assert!(fits(576) && !fits(640));
    }
}
