//! Changes to the models that are others with settings of their own.

use std::sync::Arc;

use hearth_proto::{AdapterRef, Failure, FailureKind, Lora, check_name};

use super::derived::{self, Defaults, DerivedModel};
use super::{ModelIndex, ModelStore, blocking, files};
use crate::caller::{Caller, Permission};

impl ModelStore {
    /// Refuses a caller who may not change the models.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn check_may_change(&self, caller: &Caller) -> Result<(), Failure> {
        self.check_admin(caller, Permission::ByRule)
    }

    /// The settings that a name, or what it is an alias of, has beside its file.
    pub fn derived(&self, name: &str) -> Option<DerivedModel> {
        let (config, index) = (self.shared.config.get(), self.index());
        let name = Self::aliased(&config, &index, name);
        index.derived_as(name).cloned()
    }

    /// Stores settings under a name of their own, or for a model under its own name. Those of
    /// that name are replaced.
    ///
    /// # Errors
    /// `AccessDenied`; `InvalidArgs` for a bad name, one that another model has, or an adapter
    /// that the base has not; `ModelNotFound` for the base; `Io`.
    pub async fn derive(
        &self,
        caller: &Caller,
        name: &str,
        base: &str,
        defaults: Defaults,
    ) -> Result<(), Failure> {
        self.check_may_change(caller)?;
        check_name(name)?;
        let model = self.find(&base.into()).await?;
        let index = self.index();
        if name != model.name && index.file(name).is_some() {
            return Err(files::taken(name));
        }
        // Those of a base of the same name are replaced.
        let inherited = self.derived(base).filter(|derived| derived.name != name);
        let mut defaults = match inherited {
            Some(derived) => defaults.or(&derived.defaults),
            None => defaults,
        };
        defaults.lora = index.named(&defaults.lora, &model.name)?;
        let folder = self.shared.imported.clone();
        let (wanted, from) = (name.to_owned(), model.name.clone());
        blocking(move || derived::write(&folder, &wanted, &from, defaults)).await??;
        self.refresh().await;
        log::info!(uid:% = caller.principal, model = name; "model derived from {}", model.name);
        Ok(())
    }

    /// Imports an uploaded file.
    ///
    /// # Errors
    /// Those of [`Self::import`]; `InvalidArgs` where the file was not uploaded.
    pub(crate) async fn import_blob(
        &self,
        caller: &Caller,
        name: &str,
        digest: &str,
    ) -> Result<(), Failure> {
        self.check_may_change(caller)?;
        check_name(name)?;
        self.check_free(name)?;
        if let Some(same) = self.installed_as(digest) {
            return self.copy(caller, &same.name.as_str().into(), name).await;
        }
        let file = self.open_blob(digest).await?;
        self.import(caller, Permission::ByRule, name, file).await?;
        self.drop_blob(digest).await;
        Ok(())
    }

    /// An adapter from an uploaded file, or the installed one with this digest.
    ///
    /// # Errors
    /// As [`Self::import_blob`].
    pub(crate) async fn import_adapter(
        &self,
        caller: &Caller,
        file: &str,
        digest: &str,
    ) -> Result<Lora, Failure> {
        let name = if let Some(installed) = self.installed_as(digest) {
            installed.name
        } else {
            let name = file.rsplit('/').next().unwrap_or(file);
            let name = name.strip_suffix(".gguf").unwrap_or(name);
            self.import_blob(caller, name, digest).await?;
            name.to_owned()
        };
        Ok(Lora {
            adapter: AdapterRef::Name(name),
            scale: 1.0,
        })
    }

    /// Refuses a name that a file or settings have.
    pub(super) fn check_free(&self, name: &str) -> Result<(), Failure> {
        let index = self.index();
        if index.file(name).is_some() || index.derived_as(name).is_some() {
            return Err(files::taken(name));
        }
        Ok(())
    }

    /// Deletes the settings of this name; whether nothing else has it. A model whose file
    /// others use stays.
    pub(super) async fn remove_derived(
        &self,
        index: &Arc<ModelIndex>,
        name: &str,
    ) -> Result<bool, Failure> {
        let users = index.derived().iter();
        let users = users.filter(|derived| derived.base == name && derived.name != name);
        let users: Vec<&str> = users.map(|derived| derived.name.as_str()).collect();
        if !users.is_empty() {
            let message = format!(
                "{name} is the base of {}: remove these first",
                users.join(", ")
            );
            return Err(Failure::new(FailureKind::Busy, message));
        }
        let Some(derived) = index.derived_as(name).cloned() else {
            return Ok(false);
        };
        blocking(move || derived::remove(&derived)).await??;
        self.refresh().await;
        log::info!(model = name; "settings of the model removed");
        Ok(index.get(name).is_none_or(|model| model.packaged))
    }
}
