//! Importing and removing models.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command as Process;

use super::engine_link::executable;
use super::types::{Caller, Permission};
use super::{Service, stopping};
use crate::config::ModelAdmins;
use crate::protocol::{Failure, FailureKind};

/// What `hearth-engine check` prints.
#[derive(Deserialize)]
struct Checked {
    ok: bool,
    #[serde(default)]
    failure: Option<Failure>,
}

impl Service {
    /// Copies a file into the store, has the engine check it, and gives it its name.
    ///
    /// # Errors
    /// `AccessDenied`, `InvalidArgs` for the name, `Io` (disk full: nothing is left
    /// behind), `ModelInvalid`.
    pub async fn import_model(
        &self,
        caller: &Caller,
        permission: Permission,
        name: &str,
        mut file: File,
    ) -> Result<(), Failure> {
        self.admin(caller, permission)?;
        if self.lock().draining {
            return Err(stopping());
        }
        let (service, wanted) = (self.clone(), name.to_owned());
        let copied =
            tokio::task::spawn_blocking(move || service.shared.store.receive(&wanted, &mut file));
        let import = copied
            .await
            .map_err(|e| Failure::new(FailureKind::Internal, e.to_string()))??;
        self.check_model(name, import.path()).await?;
        import.keep()?;
        log::info!(uid = caller.uid, model = name; "model imported");
        Ok(())
    }

    /// Gives a model one more name.
    ///
    /// # Errors
    /// `AccessDenied`, `ModelNotFound`, `InvalidArgs` for the name, `Io`.
    pub fn copy_model(&self, caller: &Caller, source: &str, name: &str) -> Result<(), Failure> {
        self.admin(caller, Permission::ByRule)?;
        self.shared.store.copy(source, name)?;
        log::info!(uid = caller.uid, model = name; "model copied from {source}");
        Ok(())
    }

    /// Removes an imported model.
    ///
    /// # Errors
    /// `AccessDenied`, `ModelNotFound`, `Busy` while it is loaded.
    pub fn remove_model(
        &self,
        caller: &Caller,
        permission: Permission,
        name: &str,
    ) -> Result<(), Failure> {
        self.admin(caller, permission)?;
        if self.lock().loaded_model() == Some(name) {
            return Err(Failure::new(
                FailureKind::Busy,
                format!("{name} is in memory: unload it first (`hearthctl unload`)"),
            ));
        }
        self.shared.store.remove(name)?;
        log::info!(uid = caller.uid, model = name; "model removed");
        Ok(())
    }

    fn admin(&self, caller: &Caller, permission: Permission) -> Result<(), Failure> {
        let own = nix::unistd::geteuid().as_raw();
        let allowed = permission == Permission::Granted
            || self.config().dbus.model_admins == ModelAdmins::Group;
        if allowed || caller.uid == 0 || caller.uid == own {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::AccessDenied,
            "importing and removing models is for root: use sudo, or set `dbus.model_admins = \"group\"`",
        ))
    }

    /// Loads the file in a separate process, which may crash on it.
    async fn check_model(&self, name: &str, path: &Path) -> Result<(), Failure> {
        let config = self.config();
        let engine = executable(&config.paths.engine);
        let limit = Duration::from_secs(u64::from(config.engine.load_timeout_s));
        let output = Process::new(&engine)
            .arg("check")
            .arg(path)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = match tokio::time::timeout(limit, output).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                return Err(Failure::new(
                    FailureKind::Internal,
                    format!("cannot start {}: {error}", engine.display()),
                ));
            }
            Err(_) => {
                return Err(invalid(
                    name,
                    &format!("it did not load within {} s", limit.as_secs()),
                ));
            }
        };
        match serde_json::from_slice::<Checked>(&output.stdout) {
            Ok(checked) if checked.ok => Ok(()),
            Ok(Checked {
                failure: Some(failure),
                ..
            }) => Err(Failure {
                // The temporary name means nothing to the caller.
                message: failure.message.replace(&path.display().to_string(), name),
                ..failure
            }),
            _ => Err(invalid(
                name,
                &format!("the engine died of it ({})", output.status),
            )),
        }
    }
}

fn invalid(name: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::ModelInvalid,
        format!("{name} is not a usable model: {why}; nothing was kept"),
    )
}
