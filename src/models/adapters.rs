//! Adapters among the installed files: which of them fit a model.

use hearth_gguf::AdapterError;
use hearth_proto::{ADAPTERS_MAX, AdapterRef, Failure, Lora};

use super::index::{ModelIndex, StoredModel};

impl StoredModel {
    /// Whether it is an adapter of other models.
    pub fn is_adapter(&self) -> bool {
        self.header.as_ref().is_ok_and(|header| header.is_adapter())
    }

    /// Checks that this adapter fits a model, as far as their headers show it.
    ///
    /// # Errors
    /// Why not.
    pub fn check_base(&self, base: &Self) -> Result<(), AdapterError> {
        match (&self.header, &base.header) {
            (Ok(adapter), Ok(base)) => adapter.check_base(base),
            _ => Err(AdapterError::Kind),
        }
    }
}

impl ModelIndex {
    /// The adapters that fit a model, by name; their places in it are their numbers in requests.
    pub fn adapters_of(&self, model: &str) -> Vec<&StoredModel> {
        let Some(model) = self.get(model) else {
            return Vec::new();
        };
        let adapters = self.adapters().iter();
        let fitting = adapters.filter(|adapter| adapter.check_base(model).is_ok());
        fitting.take(ADAPTERS_MAX).collect()
    }

    /// The names of the models that an adapter fits.
    pub fn bases_of(&self, adapter: &str) -> Vec<&str> {
        let Some(adapter) = self.adapters().iter().find(|a| a.name == adapter) else {
            return Vec::new();
        };
        let models = self.models().iter();
        let fitting = models.filter(|model| adapter.check_base(model).is_ok());
        fitting.map(|model| model.name.as_str()).collect()
    }

    /// The adapters of a request by their names.
    ///
    /// # Errors
    /// `InvalidArgs` where the model has no such adapter, naming those that it has.
    pub fn named(&self, wanted: &[Lora], model: &str) -> Result<Vec<Lora>, Failure> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.adapters_of(model);
        let named = wanted.iter().map(|lora| {
            let found = match &lora.adapter {
                AdapterRef::Id(id) => known.get(*id as usize),
                AdapterRef::Name(name) => known.iter().find(|a| a.name == *name),
            };
            let found = found.ok_or_else(|| self.no_adapter(&lora.adapter, model, &known))?;
            Ok(Lora {
                adapter: AdapterRef::Name(found.name.clone()),
                scale: lora.scale,
            })
        });
        named.collect()
    }

    fn no_adapter(&self, wanted: &AdapterRef, model: &str, known: &[&StoredModel]) -> Failure {
        let installed = self.adapters().iter().find(|a| match wanted {
            AdapterRef::Name(name) => a.name == *name,
            AdapterRef::Id(_) => false,
        });
        let why = installed
            .zip(self.get(model))
            .and_then(|(adapter, base)| adapter.check_base(base).err());
        let what = match why {
            Some(why) => format!("the adapter {wanted} cannot be applied to {model}: {why}"),
            None => format!("{model} has no adapter {wanted}"),
        };
        let names: Vec<String> = (0..)
            .zip(known)
            .map(|(id, adapter)| format!("{} ({id})", adapter.name))
            .collect();
        let others = if names.is_empty() {
            "it has none: import one with `hearthctl import`".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        };
        Failure::invalid(format!("{what}; {others}")).about("lora")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use hearth_gguf::synthetic::{AdapterShape, Shape, Storage, make, make_adapter};
    use hearth_proto::{ModelRef, Use};

    use super::*;

    fn index(folder: &Path) -> ModelIndex {
        ModelIndex::scan(folder, &folder.join("none"), &ModelIndex::default())
    }

    /// Two models of other widths, two adapters of the first, one of the second, and one of a
    /// model that is not installed.
    fn installed(folder: &Path) -> ModelIndex {
        let model = |name: &str, shape: &str| {
            let path = folder.join(name);
            let shape = shape.parse::<Shape>().unwrap();
            make(&path, shape, Storage::Q4KM, 1, &mut |_, _| ()).unwrap();
        };
        model("small.gguf", "1,64,128,4,2,300");
        model("wide.gguf", "1,128,128,4,2,300");
        model("gone.gguf", "1,192,128,4,2,300");
        let models = index(folder);
        let adapter = |name: &str, base: &str| {
            let base = models.get(base).unwrap().header.as_ref().unwrap();
            let path = folder.join(name);
            make_adapter(&path, base, AdapterShape::default(), 1).unwrap();
        };
        adapter("tone.gguf", "small");
        adapter("brief.gguf", "small");
        adapter("other.gguf", "wide");
        adapter("lost.gguf", "gone");
        fs::remove_file(folder.join("gone.gguf")).unwrap();
        index(folder)
    }

    fn by(adapter: AdapterRef) -> Vec<Lora> {
        vec![Lora {
            adapter,
            scale: 0.5,
        }]
    }

    #[test]
    fn adapters_belong_to_the_models_that_they_fit() {
        let folder = tempfile::tempdir().unwrap();
        let index = installed(folder.path());
        let names = |files: &[StoredModel]| -> Vec<String> {
            files.iter().map(|f| f.name.clone()).collect()
        };
        assert_eq!(names(index.models()), ["small", "wide"]);
        assert_eq!(names(index.adapters()), ["brief", "lost", "other", "tone"]);
        let of = |model| -> Vec<String> {
            let adapters = index.adapters_of(model).into_iter();
            adapters.map(|a| a.name.clone()).collect()
        };
        assert_eq!(
            (of("small"), of("wide")),
            (vec!["brief".into(), "tone".into()], vec!["other".into()])
        );
        assert_eq!(index.bases_of("tone"), ["small"]);
        assert!(index.bases_of("lost").is_empty());
        assert!(index.file("tone").is_some() && index.get("tone").is_none());
        let found = index.find(&ModelRef::named("tone"), &ModelRef::Default, Use::Chat);
        let failure = found.unwrap_err();
        assert!(failure.message.contains("fits: small"), "{failure}");
    }

    #[test]
    fn a_request_names_an_adapter_by_number_or_name() {
        let folder = tempfile::tempdir().unwrap();
        let index = installed(folder.path());
        let tone = AdapterRef::Name("tone".into());
        assert_eq!(
            index.named(&by(AdapterRef::Id(1)), "small"),
            Ok(by(tone.clone()))
        );
        assert_eq!(
            index.named(&by(tone.clone()), "small"),
            Ok(by(tone.clone()))
        );
        assert_eq!(index.named(&[], "none"), Ok(Vec::new()));
        for (wanted, model, parts) in [
            (
                AdapterRef::Id(2),
                "small",
                ["no adapter number 2", "brief (0), tone (1)"],
            ),
            (
                tone.clone(),
                "wide",
                ["belongs to another base", "there are other (0)"],
            ),
            (
                AdapterRef::Name("x".into()),
                "wide",
                ["no adapter \"x\"", "other (0)"],
            ),
            (tone, "none", ["no adapter \"tone\"", "it has none"]),
        ] {
            let failure = index.named(&by(wanted), model).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some("lora"));
            for part in parts {
                assert!(failure.message.contains(part), "{failure}");
            }
        }
    }
}
