//! Model objects, `/org/hearthd/Inference1/models/<name>`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hearth_policy::holds::Hold;
use hearth_proto::ModelRef;
use hearth_proto::bus::{MODEL_INTERFACE, model_path};
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::object_server::{InterfaceRef, ObjectServer, SignalEmitter};
use zbus::{OwnedObjectPath, Variant, fdo, interface};

use super::callers::{BusCaller, Callers, to_caller};
use super::changed::{Changed, present, text};
use super::options::{self, Options};
use super::polkit::{self, Action};
use super::{Error, Manager};
use crate::daemon::{Daemon, ModelStatus};
use crate::engines::Inhibitor;

/// Changes are coalesced for this long.
const COALESCE: Duration = Duration::from_millis(100);

/// Why a property of loaded models is absent.
const NOT_LOADED: &str = "the model is not loaded";

/// The interface `org.hearthd.Inference1.Model`, an object for each installed model.
#[derive(Debug)]
pub(super) struct Model {
    daemon: Daemon,
    callers: Callers,
    name: String,
}

impl Model {
    /// Its state now: a caller that has just loaded it, or holds it, looks for that. It is not
    /// stored here: who changes this object waits until the calls of it have ended.
    fn status(&self) -> ModelStatus {
        let now = self.daemon.model_state(&self.name);
        now.unwrap_or_default()
    }
}

#[interface(name = "org.hearthd.Inference1.Model")]
impl Model {
    /// Loads the model and waits until it is ready. There are no options yet.
    async fn load(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        options::check(&options, &[])?;
        let peer = self.callers.identify(&header, connection).await?;
        polkit::check(&peer, &header, connection, Action::LoadModel).await?;
        let model = ModelRef::named(&self.name);
        Ok(self.daemon.pool.load(&peer.caller, &model).await?)
    }

    /// Unloads the model and frees its memory. There are no options yet.
    async fn unload(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        options::check(&options, &[])?;
        let peer = self.callers.identify(&header, connection).await?;
        polkit::check(&peer, &header, connection, Action::UnloadModel).await?;
        let name = Some(self.name.as_str());
        Ok(self.daemon.pool.unload(&peer.caller, name).await?)
    }

    /// The name, as in requests.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> &str {
        &self.name
    }

    /// unloaded, waiting (for room), loading, ready or unloading.
    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.status().state.as_str()
    }

    /// Size of the file in bytes.
    #[zbus(property)]
    fn size_bytes(&self) -> u64 {
        self.status().size_bytes
    }

    /// The memory that it may take, by the estimate; 0 if it is not in memory.
    #[zbus(property)]
    fn memory_bytes(&self) -> u64 {
        self.status().memory_bytes
    }

    /// Context in tokens. Absent until it has been loaded.
    #[zbus(property)]
    fn context_size(&self) -> fdo::Result<u32> {
        present(context_size(&self.status()), NOT_LOADED)
    }

    /// What it can be asked for: chat, completion, embedding, rerank, and what messages may
    /// contain: vision, audio. Empty if that is unknown.
    #[zbus(property)]
    fn tasks(&self) -> Vec<&'static str> {
        self.status().tasks
    }

    /// The draft model that is in memory with it; empty without one.
    #[zbus(property)]
    fn draft(&self) -> String {
        self.status().draft
    }

    /// What keeps it in memory: `owner` (s), `reason` (s; absent if none was given), and
    /// `seconds_left` (t; absent if it stays until it is released).
    #[zbus(property)]
    fn holds(&self) -> Vec<HashMap<&'static str, Variant<'static>>> {
        holds(&self.status(), self.daemon.uptime())
    }

    /// When it was last used, in seconds since 1970. Absent if it is not in memory.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_use(&self) -> fdo::Result<u64> {
        present(self.daemon.last_use_unix_s(&self.name), NOT_LOADED)
    }
}

/// The objects of the installed models.
pub(super) struct Objects {
    daemon: Daemon,
    callers: Callers,
    server: ObjectServer,
    /// With the states that were last announced.
    served: BTreeMap<String, (InterfaceRef<Model>, ModelStatus)>,
}

impl Objects {
    /// Serves an object for each installed model.
    pub(super) async fn serve(
        daemon: Daemon,
        callers: Callers,
        connection: &Connection,
    ) -> zbus::Result<Self> {
        let mut objects = Self {
            daemon,
            callers,
            server: connection.object_server().clone(),
            served: BTreeMap::new(),
        };
        objects.update().await?;
        Ok(objects)
    }

    /// Publishes changes of the models until the service ends.
    pub(super) async fn publish(mut self) {
        let mut pool = self.daemon.pool.subscribe();
        let mut index = self.daemon.store.subscribe();
        loop {
            let changed = tokio::select! {
                changed = pool.changed() => changed,
                changed = index.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            tokio::time::sleep(COALESCE).await;
            pool.borrow_and_update();
            index.borrow_and_update();
            if let Err(error) = self.update().await {
                log::debug!("cannot publish the models: {error}");
            }
        }
    }

    async fn update(&mut self) -> zbus::Result<()> {
        let states = self.daemon.model_states();
        let is_installed = |name: &str| states.iter().any(|status| status.name == name);
        let gone: Vec<String> = self.served.keys().cloned().collect();
        for name in gone.into_iter().filter(|name| !is_installed(name)) {
            self.served.remove(&name);
            self.server.remove::<Model, _>(path(&name)?).await?;
        }
        for status in states {
            match self.served.get_mut(&status.name) {
                Some((interface, announced)) => {
                    let changed = changed(announced, &status, self.daemon.uptime());
                    *announced = status;
                    let to = interface.signal_emitter();
                    changed.emit(to, MODEL_INTERFACE).await?;
                }
                None => self.add(status).await?,
            }
        }
        Ok(())
    }

    async fn add(&mut self, status: ModelStatus) -> zbus::Result<()> {
        let (name, path) = (status.name.clone(), path(&status.name)?);
        let model = Model {
            daemon: self.daemon.clone(),
            callers: self.callers.clone(),
            name: name.clone(),
        };
        self.server.at(&path, model).await?;
        let interface = self.server.interface::<_, Model>(&path).await?;
        self.served.insert(name, (interface, status));
        Ok(())
    }
}

/// What differs between two states of a model.
fn changed(old: &ModelStatus, new: &ModelStatus, now: Duration) -> Changed {
    let mut changed = Changed::default();
    changed.add("State", (&old.state, &new.state), |state| {
        text(state.as_str())
    });
    for (name, old, new) in [
        ("SizeBytes", old.size_bytes, new.size_bytes),
        ("MemoryBytes", old.memory_bytes, new.memory_bytes),
    ] {
        changed.add(name, (&old, &new), |value| (*value).into());
    }
    let contexts = (&context_size(old), &context_size(new));
    changed.add_optional("ContextSize", contexts, |size| (*size).into());
    changed.add("Draft", (&old.draft, &new.draft), |draft| text(draft));
    changed.add("Tasks", (&old.tasks, &new.tasks), |t| t.clone().into());
    changed.add("Holds", (&old.holds, &new.holds), |_| {
        holds(new, now).into()
    });
    changed
}

/// Takes an inhibitor, which is released at the latest when its owner leaves the bus. The owner
/// is told if it ends before.
pub(super) async fn keep_loaded(
    daemon: &Daemon,
    peer: BusCaller,
    model: &ModelRef,
    reason: &str,
    manager: SignalEmitter<'static>,
) -> Result<u32, Error> {
    let pool = daemon.pool.clone();
    let Inhibitor { cookie, ended } = pool.inhibit_unload(&peer.caller, model, reason).await?;
    tokio::spawn(async move {
        let has_ended = tokio::select! {
            ended = ended => ended.is_ok(),
            () = peer.disconnected() => {
                pool.release(&peer.caller, cookie);
                false
            }
        };
        if has_ended {
            let to_owner = to_caller(manager, &peer.caller.origin.to_string());
            if let Err(error) = Manager::keep_loaded_ended(&to_owner, cookie).await {
                log::debug!("cannot report the end of inhibitor {cookie}: {error}");
            }
        }
    });
    Ok(cookie)
}

/// What keeps a model in memory, as dictionaries.
fn holds(status: &ModelStatus, now: Duration) -> Vec<HashMap<&'static str, Variant<'static>>> {
    status.holds.iter().map(|shown| hold(shown, now)).collect()
}

/// What keeps a model in memory, as a dictionary.
fn hold(hold: &Hold, now: Duration) -> HashMap<&'static str, Variant<'static>> {
    let mut shown = HashMap::from([("owner", text(&hold.owner))]);
    if !hold.reason.is_empty() {
        shown.insert("reason", text(&hold.reason));
    }
    if let Some(until) = hold.until {
        shown.insert("seconds_left", until.saturating_sub(now).as_secs().into());
    }
    shown
}

/// Its context in tokens, where it is loaded.
fn context_size(status: &ModelStatus) -> Option<u32> {
    Some(status.context_size).filter(|size| *size > 0)
}

fn path(name: &str) -> zbus::Result<OwnedObjectPath> {
    OwnedObjectPath::try_from(model_path(name))
}
