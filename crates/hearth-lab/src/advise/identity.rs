//! Whether two files are quantizations of the same model.

use hearth_gguf::Header;

/// What files of one model have in common, whatever their type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub architecture: String,
    pub name: String,
    /// Blocks, embedding width, feed-forward width, tokens of the vocabulary.
    pub shape: [u32; 4],
}

impl Identity {
    /// The identity of the model in a file.
    pub fn of(header: &Header) -> Self {
        let shape = &header.shape;
        Self {
            architecture: header.architecture.clone(),
            name: header.name.clone(),
            shape: [
                shape.blocks,
                shape.width,
                shape.feed_forward,
                shape.vocabulary,
            ],
        }
    }

    /// Why two files cannot be of the same model.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.architecture != other.architecture {
            return Some(format!(
                "architectures {} and {}",
                self.architecture, other.architecture
            ));
        }
        if self.shape != other.shape {
            return Some("their dimensions differ".to_owned());
        }
        if self.name != other.name {
            return Some(format!("names {:?} and {:?}", self.name, other.name));
        }
        None
    }
}
