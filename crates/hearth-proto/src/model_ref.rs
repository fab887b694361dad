//! Which model a request names.

use serde::{Deserialize, Serialize};

/// The model that a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ModelRef {
    /// The loaded one, else the default one. In requests an empty name, the name `default`,
    /// or none.
    #[default]
    Default,
    /// An installed model by its name. Ollama's tag `:latest` is not part of it.
    Named(String),
}

impl ModelRef {
    /// The installed model of this name, whatever the name is.
    pub fn named(name: &str) -> Self {
        Self::Named(name.strip_suffix(":latest").unwrap_or(name).to_owned())
    }

    /// The name, if there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::Named(name) => Some(name),
        }
    }

    /// Whether a model of this name is meant.
    pub fn accepts(&self, name: &str) -> bool {
        self.name().is_none_or(|wanted| wanted == name)
    }
}

impl From<&str> for ModelRef {
    fn from(name: &str) -> Self {
        match name.strip_suffix(":latest").unwrap_or(name) {
            "" | "default" => Self::Default,
            name => Self::Named(name.to_owned()),
        }
    }
}

impl From<Option<&str>> for ModelRef {
    fn from(name: Option<&str>) -> Self {
        name.map_or(Self::Default, Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_references_are_parsed_from_names() {
        for name in ["", "default", "default:latest"] {
            assert_eq!(ModelRef::from(name), ModelRef::Default);
        }
        assert_eq!(ModelRef::from("m:latest"), ModelRef::Named("m".into()));
        assert!(ModelRef::from("m").accepts("m"));
        assert!(!ModelRef::from("m").accepts("n"));
        assert!(ModelRef::Default.accepts("n"));
    }
}
