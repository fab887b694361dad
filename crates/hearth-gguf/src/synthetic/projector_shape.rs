//! Projectors of any kind, by the names of their shapes.

use std::str::FromStr;

use super::{PROJECTORS, Projector, SOUND_PROJECTORS, SoundProjector};
use crate::write::{Tensor, Value};

/// The shape of a projector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectorShape {
    /// For pictures.
    Pictures(Projector),
    /// For sounds.
    Sounds(SoundProjector),
}

impl From<Projector> for ProjectorShape {
    fn from(projector: Projector) -> Self {
        Self::Pictures(projector)
    }
}

impl From<SoundProjector> for ProjectorShape {
    fn from(projector: SoundProjector) -> Self {
        Self::Sounds(projector)
    }
}

impl ProjectorShape {
    /// The same projector, for a text model of this width.
    #[must_use]
    pub fn for_width(self, text_width: u32) -> Self {
        match self {
            Self::Pictures(projector) => projector.for_width(text_width).into(),
            Self::Sounds(projector) => projector.for_width(text_width).into(),
        }
    }

    fn with_layers(self, layers: u32) -> Self {
        match self {
            Self::Pictures(projector) => Projector {
                layers,
                ..projector
            }
            .into(),
            Self::Sounds(projector) => SoundProjector {
                layers,
                ..projector
            }
            .into(),
        }
    }

    /// Header and tensors of its file.
    pub(super) fn content(self) -> (Vec<(String, Value)>, Vec<Tensor>) {
        match self {
            Self::Pictures(projector) => (projector.header(), projector.tensors()),
            Self::Sounds(projector) => (projector.header(), projector.tensors()),
        }
    }
}

impl FromStr for ProjectorShape {
    type Err = String;

    /// The name of a shape, optionally with another number of blocks: `gemma3-4b:2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, layers) = match text.split_once(':') {
            Some((name, layers)) => (name, layers.parse().ok()),
            None => (text, None),
        };
        let sounds = || SoundProjector::named(name).map(Self::Sounds);
        let found = Projector::named(name).map(Self::Pictures).or_else(sounds);
        let found = found.filter(|_| layers.is_some() || name == text);
        let found = found.map(|shape| layers.map_or(shape, |layers| shape.with_layers(layers)));
        found.ok_or_else(|| {
            let pictures = PROJECTORS.iter().map(|(name, _)| *name);
            let sounds = SOUND_PROJECTORS.iter().map(|(name, _)| *name);
            let names: Vec<&str> = pictures.chain(sounds).collect();
            let names = names.join(", ");
            format!("known projectors: {names}; with another number of blocks: NAME:BLOCKS")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_other_numbers_of_blocks() {
        let blocks = |text: &str| {
            text.parse().map(|shape| match shape {
                ProjectorShape::Pictures(projector) => (true, projector.layers),
                ProjectorShape::Sounds(projector) => (false, projector.layers),
            })
        };
        assert_eq!(blocks("gemma3-4b"), Ok((true, 27)));
        assert_eq!(blocks("gemma3-4b:2"), Ok((true, 2)));
        assert_eq!(blocks("ultravox-1b:3"), Ok((false, 3)));
        for wrong in ["ultravox", "ultravox-1b:", "ultravox-1b:x", ""] {
            let refused = blocks(wrong).unwrap_err();
            assert!(refused.contains("tiny-ultravox"), "{refused}");
        }
    }
}
