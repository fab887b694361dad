//! The model store: owns the folders with model files and an index of them.
//!
//! Folders are listed and headers are read on the blocking pool; everyone else works on
//! the index, which is never locked while a file is open.

mod adapters;
mod blobs;
mod check;
mod derive;
mod derived;
mod digests;
mod files;
mod imports;
mod index;
mod projectors;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hearth_proto::{Failure, FailureKind, ModelRef, Use};
use tokio::sync::watch;

use crate::caller::{Caller, Permission};
use crate::changes::publish;
use crate::config::{Config, ConfigReader, ModelAdmins};
pub use blobs::Upload;
pub use derived::{Defaults, DerivedModel};
use digests::Digests;
pub use imports::Copied;
use imports::Imports;
pub use index::{ModelIndex, StoredModel};
pub use projectors::ProjectorOf;

/// Handle on the store; clones share everything.
#[derive(Clone, Debug)]
pub struct ModelStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ConfigReader,
    /// The writable folder of imported models.
    imported: PathBuf,
    /// The read-only folder of packages.
    packaged: PathBuf,
    index: watch::Sender<Arc<ModelIndex>>,
    /// Held while the folders are listed.
    scanning: tokio::sync::Mutex<()>,
    digests: Digests,
    imports: Imports,
}

impl ModelStore {
    /// Opens a store over both folders, deletes incomplete imports of an earlier process,
    /// and lists the models.
    pub async fn open(config: ConfigReader) -> Self {
        let paths = config.get().paths.clone();
        let imported = paths.models.clone();
        let known = blocking(move || {
            files::remove_incomplete(&imported);
            digests::stored(&imported)
        });
        let known = known.await.unwrap_or_default();
        let store = Self {
            shared: Arc::new(Shared {
                config,
                digests: Digests::new(&paths.models, known),
                imported: paths.models,
                packaged: paths.models_packaged,
                index: watch::Sender::default(),
                scanning: tokio::sync::Mutex::default(),
                imports: Imports::default(),
            }),
        };
        store.refresh().await;
        store
    }

    /// The models as last listed.
    pub fn index(&self) -> Arc<ModelIndex> {
        Arc::clone(&self.shared.index.borrow())
    }

    /// The models and their changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ModelIndex>> {
        self.shared.index.subscribe()
    }

    /// Lists the folders again: users may copy files into them.
    pub async fn refresh(&self) -> Arc<ModelIndex> {
        let _turn = self.shared.scanning.lock().await;
        let (shared, before) = (Arc::clone(&self.shared), self.index());
        let scanned =
            blocking(move || ModelIndex::scan(&shared.imported, &shared.packaged, &before));
        if let Ok(index) = scanned.await {
            publish(&self.shared.index, Arc::new(index));
        }
        self.index()
    }

    /// Finds an installed model by its name or an alias; the default one is that for chats.
    ///
    /// # Errors
    /// `ModelNotFound`, naming the installed models.
    pub async fn find(&self, model: &ModelRef) -> Result<StoredModel, Failure> {
        self.find_for(model, Use::Chat).await
    }

    /// The same, with the default one for this use.
    ///
    /// # Errors
    /// `ModelNotFound`, naming the installed models.
    pub async fn find_for(&self, model: &ModelRef, purpose: Use) -> Result<StoredModel, Failure> {
        self.refresh().await;
        self.find_listed(model, purpose)
    }

    /// The same among the models as last listed.
    pub(crate) fn find_listed(
        &self,
        model: &ModelRef,
        purpose: Use,
    ) -> Result<StoredModel, Failure> {
        let (model, default) = self.resolve(model, purpose);
        self.index().find(&model, &default, purpose).cloned()
    }

    /// The name of the default model for chats as last listed; `None` if there is none.
    pub fn default_name(&self) -> Option<String> {
        let found = self.find_listed(&ModelRef::Default, Use::Chat);
        found.ok().map(|model| model.name)
    }

    /// What a name means, where it is an alias and no model has it, and the configured default
    /// model for a use.
    pub(crate) fn resolve(&self, model: &ModelRef, purpose: Use) -> (ModelRef, ModelRef) {
        let config = self.shared.config.get();
        let index = self.index();
        let resolved = match model.name() {
            Some(name) => {
                ModelRef::Named(index.base(Self::aliased(&config, &index, name)).to_owned())
            }
            None => ModelRef::Default,
        };
        let specialist = index.specialist(purpose).map(|model| model.name.as_str());
        let default = match config.model.default_for(purpose) {
            "" => specialist.unwrap_or(&config.model.default),
            configured => configured,
        };
        (resolved, ModelRef::from(default))
    }

    /// What an alias stands for, where no model has its name; any other name as it is.
    fn aliased<'a>(config: &'a Config, index: &ModelIndex, name: &'a str) -> &'a str {
        if index.get(name).is_some() || index.derived_as(name).is_some() {
            return name;
        }
        config.model.aliases.get(name).map_or(name, String::as_str)
    }

    /// Copies a file into the store, has the engine check it, and gives it its name.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` for the name, `Io` (the incomplete copy is
    /// deleted), `ModelInvalid`.
    pub async fn import(
        &self,
        caller: &Caller,
        permission: Permission,
        name: &str,
        mut file: File,
    ) -> Result<(), Failure> {
        self.check_admin(caller, permission)?;
        let (folder, wanted) = (self.shared.imported.clone(), name.to_owned());
        let running = Arc::new(self.shared.imports.begin(name));
        let report = Arc::downgrade(&running);
        let import = blocking(move || {
            let report = |done, total| match report.upgrade() {
                Some(running) => {
                    running.report(done, total);
                    Ok(())
                }
                None => Err(io::Error::other("the import was cancelled")),
            };
            files::receive(&folder, &wanted, &mut file, report)
        });
        let import = import.await??;
        let config = self.shared.config.get();
        let limit = Duration::from_secs(u64::from(config.engine.load_timeout_s));
        let engine = config.paths.engine_executable();
        let bases = self.refresh().await;
        let path = import.path().to_owned();
        let base = blocking(move || index::base_of(&path, &bases)).await?;
        check::check(&engine, name, import.path(), base.as_deref(), limit).await?;
        let is_wanted = Arc::downgrade(&running);
        blocking(move || match is_wanted.upgrade() {
            Some(_) => import.persist(),
            None => Ok(()),
        })
        .await??;
        self.refresh().await;
        log::info!(uid:% = caller.principal, model = name; "model imported");
        Ok(())
    }

    /// How far a running import of this name is; the channel closes when it ends.
    pub fn import_progress(&self, name: &str) -> Option<watch::Receiver<Copied>> {
        self.shared.imports.watch(name)
    }

    /// Gives a model another name, and its projector that of the copy.
    ///
    /// # Errors
    /// `AccessDenied`; `ModelNotFound`; `InvalidArgs` for a bad name or one that is in use;
    /// `Io`, also if the model belongs to a package and is on another file system.
    pub async fn copy(
        &self,
        caller: &Caller,
        source: &ModelRef,
        name: &str,
    ) -> Result<(), Failure> {
        self.check_admin(caller, Permission::ByRule)?;
        let model = self.find(source).await?;
        self.check_free(name)?;
        if let Some(derived) = source.name().and_then(|name| self.derived(name)) {
            let base = derived.base.clone();
            return self
                .derive(caller, name, &base, (*derived.defaults).clone())
                .await;
        }
        let (folder, source) = (self.shared.imported.clone(), model.name.clone());
        let projectors = self.index().projector_links(&model, name)?;
        let wanted = name.to_owned();
        blocking(move || {
            for (projector, name) in &projectors {
                files::link(&folder, projector, name)?;
            }
            files::link(&folder, &model, &wanted)
        })
        .await??;
        self.refresh().await;
        log::info!(uid:% = caller.principal, model = name; "model copied from {source}");
        Ok(())
    }

    /// Removes an imported model or adapter, unless `is_loaded` says that it is in memory.
    ///
    /// # Errors
    /// `AccessDenied`, also for a packaged one; `ModelNotFound`; `Busy` while it is loaded;
    /// `Io`.
    pub async fn remove(
        &self,
        caller: &Caller,
        permission: Permission,
        name: &str,
        is_loaded: impl Fn(&str) -> bool,
    ) -> Result<(), Failure> {
        self.check_admin(caller, permission)?;
        // An alias is no name of a file.
        let index = self.refresh().await;
        if self.remove_derived(&index, name).await? {
            return Ok(());
        }
        let wanted = ModelRef::named(name);
        let (model, projector) = if let Some(projector) = index.projector(name) {
            (projector.clone(), None)
        } else if let Some(file) = wanted.name().and_then(|name| index.file(name)) {
            // A packaged one stays for the packaged model, which is hidden by an import.
            let own = index.projector(&projectors::name_for(&file.name));
            let own = own.filter(|projector| !projector.packaged);
            (file.clone(), own.cloned())
        } else {
            let model = index.find(&wanted, &ModelRef::Default, Use::Chat)?;
            (model.clone(), None)
        };
        let owner = projectors::model_of(&model.name).unwrap_or(&model.name);
        if is_loaded(&model.name) || is_loaded(owner) {
            return Err(Failure::new(
                FailureKind::Busy,
                format!("{name} is loaded: unload it first (`hearthctl unload`)"),
            ));
        }
        blocking(move || {
            files::remove(&model)?;
            projector.map_or(Ok(()), |projector| files::remove(&projector))
        })
        .await??;
        self.refresh().await;
        log::info!(uid:% = caller.principal, model = name; "model removed");
        Ok(())
    }

    /// Whether this caller may import and remove models.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(crate) fn check_admin(
        &self,
        caller: &Caller,
        permission: Permission,
    ) -> Result<(), Failure> {
        let allowed = permission == Permission::Granted
            || self.shared.config.get().dbus.model_admins == ModelAdmins::Group;
        if allowed || caller.principal.is_admin() {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::AccessDenied,
            "only root may import and remove models: use sudo, or set `dbus.model_admins = \"group\"`",
        ))
    }
}

/// Runs file operations on the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))
}
