//! The index of model files, as of the last scan of the folders.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use hearth_gguf::{Header, ProjectorHeader, read_header};
use hearth_proto::{Failure, FailureKind, ModelKind, ModelRef, Use};

use super::derived::{self, DerivedModel};
use super::projectors::{self, ProjectorOf};

/// An installed model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredModel {
    /// File name without `.gguf`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// Seconds since 1970 of its last change.
    pub modified_s: u64,
    /// Whether it belongs to a package.
    pub packaged: bool,
    /// Its header, or why that cannot be read.
    pub header: Result<Arc<Header>, String>,
}

impl StoredModel {
    /// Its kind, if its header can be read and says it.
    pub(crate) fn kind(&self) -> Option<ModelKind> {
        self.header.as_ref().ok()?.model_kind()
    }

    /// Whether it supports a use, as far as is known.
    fn supports(&self, purpose: Use) -> bool {
        self.kind().is_none_or(|kind| kind.can(purpose))
    }
}

/// All models by name, and all adapters; an imported file hides a packaged one of the same name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelIndex {
    models: Vec<StoredModel>,
    adapters: Vec<StoredModel>,
    /// Files that belong to models.
    projectors: Vec<StoredModel>,
    /// Settings under names of their own.
    derived: Vec<DerivedModel>,
}

impl ModelIndex {
    /// Lists both folders. Headers of files that are in `before` and did not change since
    /// are taken from there: reading a large vocabulary takes long on a board.
    pub(super) fn scan(imported: &Path, packaged: &Path, before: &Self) -> Self {
        let mut files: Vec<StoredModel> = Vec::new();
        for (folder, is_packaged) in [(imported, false), (packaged, true)] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if let Some(file) = describe(&entry.path(), is_packaged, before)
                    && !files.iter().any(|f| f.name == file.name)
                {
                    files.push(file);
                }
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let is_projector = |m: &StoredModel| m.header.as_ref().is_ok_and(|h| h.is_projector());
        let (projectors, files): (_, Vec<_>) = files.into_iter().partition(is_projector);
        let (adapters, models) = files.into_iter().partition(StoredModel::is_adapter);
        Self {
            models,
            adapters,
            projectors,
            derived: derived::scan(imported, &before.derived),
        }
    }

    /// The models that are others with settings of their own, by name. One may have the name of
    /// its base.
    pub fn derived(&self) -> &[DerivedModel] {
        &self.derived
    }

    /// The derived model of this name.
    pub fn derived_as(&self, name: &str) -> Option<&DerivedModel> {
        self.derived.iter().find(|derived| derived.name == name)
    }

    /// The name of the model whose file is used for this name.
    pub fn base<'a>(&'a self, name: &'a str) -> &'a str {
        match self.derived_as(name) {
            Some(derived) if self.get(name).is_none() => &derived.base,
            _ => name,
        }
    }

    /// The models by name.
    pub fn models(&self) -> &[StoredModel] {
        &self.models
    }

    /// The adapters by name.
    pub fn adapters(&self) -> &[StoredModel] {
        &self.adapters
    }

    /// The model or adapter of this name.
    pub fn file(&self, name: &str) -> Option<&StoredModel> {
        let adapter = || self.adapters.iter().find(|a| a.name == name);
        self.get(name).or_else(adapter)
    }

    /// The model of this name.
    pub fn get(&self, name: &str) -> Option<&StoredModel> {
        self.models.iter().find(|m| m.name == name)
    }

    /// The projector of a model.
    pub fn projector_of(&self, model: &StoredModel) -> ProjectorOf {
        projectors::find(&self.models, &self.projectors, model)
    }

    /// The names of the models whose projector meets a condition.
    pub fn with_projector(&self, meets: impl Fn(&ProjectorHeader) -> bool) -> Vec<&str> {
        let has = |model: &&StoredModel| meets(&self.projector_of(model).header());
        let models = self.models.iter().filter(has);
        models.map(|model| model.name.as_str()).collect()
    }

    /// The projector of this name.
    pub(super) fn projector(&self, name: &str) -> Option<&StoredModel> {
        self.projectors.iter().find(|p| p.name == name)
    }

    /// Finds a model. The default is `configured` if that is set, else the only imported
    /// one that supports the use, else the smallest such packaged one; without such, the
    /// smallest packaged one, which then says what it is for.
    ///
    /// # Errors
    /// `ModelNotFound`, naming the installed models.
    pub fn find(
        &self,
        model: &ModelRef,
        configured: &ModelRef,
        purpose: Use,
    ) -> Result<&StoredModel, Failure> {
        let found = match model.name().or(configured.name()) {
            Some(name) => self.get(name),
            None => self
                .only_imported(purpose)
                .or_else(|| self.smallest_packaged(purpose))
                .or_else(|| self.smallest_packaged(Use::Chat)),
        };
        found.ok_or_else(|| self.not_found(model.name().or(configured.name())))
    }

    /// The only model that was made for this use and for no other, or that takes pictures or
    /// sounds.
    pub(super) fn specialist(&self, purpose: Use) -> Option<&StoredModel> {
        let is_made_for = |model: &&StoredModel| {
            let kind = model.kind();
            match purpose {
                Use::Vision => self.projector_of(model).header().vision,
                Use::Audio => self.projector_of(model).header().audio,
                _ => kind.is_some_and(|kind| kind.can(purpose) && !kind.can(Use::Completion)),
            }
        };
        let mut made_for = self.models.iter().filter(is_made_for);
        made_for.next().filter(|_| made_for.next().is_none())
    }

    fn only_imported(&self, purpose: Use) -> Option<&StoredModel> {
        let imported = || self.models.iter().filter(|m| !m.packaged);
        let mut fitting = imported().filter(|m| m.supports(purpose));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Some(only),
            (None, _) if imported().count() == 1 => imported().next(),
            _ => None,
        }
    }

    fn smallest_packaged(&self, purpose: Use) -> Option<&StoredModel> {
        let packaged = self
            .models
            .iter()
            .filter(|m| m.packaged && m.supports(purpose));
        packaged.min_by_key(|m| m.size_bytes)
    }

    fn not_found(&self, name: Option<&str>) -> Failure {
        if let Some(adapter) = name.filter(|name| self.adapters.iter().any(|a| a.name == **name)) {
            let bases = self.bases_of(adapter).join(", ");
            let message = format!(
                "{adapter} is an adapter: name its model, and the adapter in `lora`; models that \
                 it fits: {bases}"
            );
            return Failure::new(FailureKind::ModelNotFound, message);
        }
        let names: Vec<&str> = self.models.iter().map(|m| m.name.as_str()).collect();
        let message = if names.is_empty() {
            "no model is installed: get one with `hearthctl pull` or `hearthctl import FILE`"
                .to_owned()
        } else if let Some(name) = name {
            format!(
                "there is no model {name:?}; installed: {}",
                names.join(", ")
            )
        } else {
            format!(
                "several models are installed: name one of them or set `model.default`: {}",
                names.join(", ")
            )
        };
        Failure::new(FailureKind::ModelNotFound, message)
    }
}

fn describe(path: &Path, packaged: bool, before: &ModelIndex) -> Option<StoredModel> {
    let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    if name.starts_with('.') {
        return None;
    }
    let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let modified = meta.modified().unwrap_or(UNIX_EPOCH);
    let modified_s = modified
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let size_bytes = meta.len();
    let known = before
        .models
        .iter()
        .chain(&before.adapters)
        .chain(&before.projectors)
        .find(|m| m.path == path && m.size_bytes == size_bytes && m.modified_s == modified_s);
    let header = known.map_or_else(|| header(path), |m| m.header.clone());
    Some(StoredModel {
        name: name.to_owned(),
        path: path.to_owned(),
        size_bytes,
        modified_s,
        packaged,
        header,
    })
}

/// The smallest model that the file at `path` fits, if that is an adapter.
pub(super) fn base_of(path: &Path, index: &ModelIndex) -> Option<PathBuf> {
    let adapter = header(path).ok().filter(|header| header.is_adapter())?;
    let fits = |model: &&StoredModel| {
        let base = model.header.as_ref();
        base.is_ok_and(|base| adapter.check_base(base).is_ok())
    };
    let models = index.models().iter().filter(fits);
    models
        .min_by_key(|model| model.size_bytes)
        .map(|model| model.path.clone())
}

fn header(path: &Path) -> Result<Arc<Header>, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let header = read_header(&mut BufReader::new(file)).map_err(|e| e.to_string())?;
    Ok(Arc::new(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: &ModelIndex, name: &str, configured: &str) -> Result<String, Failure> {
        let found = index.find(&name.into(), &configured.into(), Use::Chat);
        found.map(|model| model.name.clone())
    }

    #[test]
    fn the_default_is_the_only_import_else_the_smallest_packaged() {
        let root = tempfile::tempdir().unwrap();
        let (imported, packaged) = (root.path().join("imported"), root.path().join("packaged"));
        fs::create_dir(&imported).unwrap();
        fs::create_dir(&packaged).unwrap();
        let scan = || ModelIndex::scan(&imported, &packaged, &ModelIndex::default());
        let none = found(&scan(), "", "").unwrap_err();
        assert_eq!(none.kind, FailureKind::ModelNotFound);
        fs::write(packaged.join("big.gguf"), "xxxx").unwrap();
        fs::write(packaged.join("small.gguf"), "x").unwrap();
        assert_eq!(found(&scan(), "", "").unwrap(), "small");
        fs::write(imported.join("mine.gguf"), "xx").unwrap();
        let index = scan();
        assert_eq!(found(&index, "", "").unwrap(), "mine");
        assert_eq!(found(&index, "default", "big").unwrap(), "big");
        assert_eq!(found(&index, "big:latest", "").unwrap(), "big");
        let error = found(&index, "nope", "").unwrap_err();
        assert!(
            error.message.contains("installed: big, mine, small"),
            "{error}"
        );
    }

    #[test]
    fn a_header_is_read_again_only_after_a_change() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("m.gguf");
        fs::write(&path, "x").unwrap();
        let nowhere = Path::new("/nonexistent");
        let mut before = ModelIndex::scan(root.path(), nowhere, &ModelIndex::default());
        assert!(before.models[0].header.is_err(), "one byte is no header");
        before.models[0].header = Ok(Arc::default());
        let same = ModelIndex::scan(root.path(), nowhere, &before);
        assert!(same.models[0].header.is_ok());
        fs::write(&path, "xx").unwrap();
        let changed = ModelIndex::scan(root.path(), nowhere, &before);
        assert!(changed.models[0].header.is_err());
    }
}
