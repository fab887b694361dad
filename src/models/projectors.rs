//! Which projector belongs to which model. A projector is a file beside its model,
//! `mmproj-<model>.gguf` where it was imported with it.

use hearth_gguf::ProjectorHeader;
use hearth_proto::Failure;

use super::files;
use super::index::{ModelIndex, StoredModel};

/// The beginning of a projector's name.
const PREFIX: &str = "mmproj-";

/// The projector of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectorOf {
    /// It has none.
    None,
    /// This one.
    Found(StoredModel),
    /// A file has its name, but cannot be used for this reason.
    Unusable(String),
}

impl ProjectorOf {
    /// What it takes: nothing where there is none, or its header cannot be read.
    pub fn header(&self) -> ProjectorHeader {
        match self {
            Self::Found(found) => found.header.as_ref().ok().and_then(|h| h.projector),
            Self::None | Self::Unusable(_) => None,
        }
        .unwrap_or_default()
    }

    /// Size of its file; 0 where there is none.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Found(found) => found.size_bytes,
            Self::None | Self::Unusable(_) => 0,
        }
    }
}

/// The model that a projector of this name was imported for; `None` if it is no such name.
pub(super) fn model_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

/// The name of a model's projector, where it was imported with it.
pub(super) fn name_for(model: &str) -> String {
    format!("{PREFIX}{model}")
}

impl ModelIndex {
    /// The further names that the projector of a model needs when the model is copied to
    /// `copy`: that of the copy and, where its file is named after no model, that of the model
    /// itself, because it fits two models from then on.
    ///
    /// # Errors
    /// `InvalidArgs` where a projector of the copy's name exists already.
    pub(super) fn projector_links(
        &self,
        model: &StoredModel,
        copy: &str,
    ) -> Result<Vec<(StoredModel, String)>, Failure> {
        let ProjectorOf::Found(found) = self.projector_of(model) else {
            return Ok(Vec::new());
        };
        let names = [name_for(copy), name_for(&model.name)];
        if self.projector(&names[0]).is_some() {
            return Err(files::taken(&names[0]));
        }
        let names = names.into_iter().filter(|name| *name != found.name);
        Ok(names.map(|name| (found.clone(), name)).collect())
    }
}

/// Finds the projector of a model: the one with its name, else the only one in its folder
/// that fits it and no other model there.
pub(super) fn find(
    models: &[StoredModel],
    projectors: &[StoredModel],
    model: &StoredModel,
) -> ProjectorOf {
    let Some(width) = width(model) else {
        return ProjectorOf::None;
    };
    let named = projectors
        .iter()
        .find(|p| model_of(&p.name) == Some(&model.name));
    if let Some(projector) = named {
        return match misfit(projector, width) {
            None => ProjectorOf::Found(projector.clone()),
            Some(why) => ProjectorOf::Unusable(why),
        };
    }
    let is_near = |other: &StoredModel| other.path.parent() == model.path.parent();
    let others = models.iter().filter(|m| is_near(m) && m.name != model.name);
    if others
        .into_iter()
        .any(|other| self::width(other) == Some(width))
    {
        return ProjectorOf::None;
    }
    let is_free = |p: &StoredModel| {
        let owner = model_of(&p.name);
        !models.iter().any(|m| owner == Some(&m.name))
    };
    let mut fitting = projectors
        .iter()
        .filter(|p| is_near(p) && is_free(p) && misfit(p, width).is_none());
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => ProjectorOf::Found(only.clone()),
        _ => ProjectorOf::None,
    }
}

/// Width of a model's embeddings.
fn width(model: &StoredModel) -> Option<u32> {
    let header = model.header.as_ref().ok()?;
    Some(header.shape.width).filter(|width| *width > 0)
}

/// Why a projector cannot belong to a model of this width.
fn misfit(projector: &StoredModel, width: u32) -> Option<String> {
    let header = projector.header.as_ref().ok();
    let found = header.and_then(|header| header.projector)?;
    (!found.fits(width)).then(|| {
        format!(
            "{} is the projector of a model with embeddings of {} numbers, and this model's have \
             {width}: import the model's own",
            projector.name, found.text_width
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_gguf::{Header, Shape};

    use super::*;

    fn file(name: &str, header: Header) -> StoredModel {
        StoredModel {
            name: name.into(),
            path: format!("/models/{name}.gguf").into(),
            size_bytes: 1,
            modified_s: 0,
            packaged: false,
            header: Ok(Arc::new(header)),
        }
    }

    fn model(name: &str, width: u32) -> StoredModel {
        let shape = Shape {
            width,
            ..Shape::default()
        };
        file(
            name,
            Header {
                shape,
                ..Header::default()
            },
        )
    }

    fn projector(name: &str, text_width: u32) -> StoredModel {
        let projector = ProjectorHeader {
            vision: true,
            text_width,
            ..ProjectorHeader::default()
        };
        file(
            name,
            Header {
                kind: "mmproj".into(),
                projector: Some(projector),
                ..Header::default()
            },
        )
    }

    #[test]
    fn a_projector_belongs_to_the_model_of_its_name_else_to_the_only_one_that_it_fits() {
        let models = [model("a", 64), model("b", 64), model("c", 96)];
        let projectors = [
            projector("mmproj-a", 64),
            projector("mmproj-b", 32),
            projector("mmproj-model-f16", 96),
        ];
        let found = |n: usize| find(&models, &projectors, &models[n]);
        assert_eq!(found(0), ProjectorOf::Found(projectors[0].clone()));
        let ProjectorOf::Unusable(why) = found(1) else {
            panic!("{:?}", found(1));
        };
        assert!(why.contains("mmproj-b") && why.contains("32") && why.contains("64"));
        assert_eq!(found(2), ProjectorOf::Found(projectors[2].clone()));
        // Two models of one width: it may belong to either of them.
        let models = [model("c", 96), model("d", 96)];
        assert_eq!(find(&models, &projectors, &models[0]), ProjectorOf::None);
        // Two projectors of one width.
        let projectors = [projector("x", 96), projector("y", 96)];
        assert_eq!(
            find(&models[..1], &projectors, &models[0]),
            ProjectorOf::None
        );
    }
}
