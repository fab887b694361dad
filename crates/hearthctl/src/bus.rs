//! The service's objects on the bus, and the connection to it.
//!
//! No method has a timeout: loading or a long prompt may take minutes on a small
//! board, and by default zbus waits as long as the connection is open.

use std::collections::{BTreeMap, HashMap};

use hearth_proto::bus::{JOB_INTERFACE, JOBS, MODEL_INTERFACE, NAME, PATH, model_path};
use zbus::proxy::CacheProperties;
use zbus::{Connection, Fd, OwnedFd, OwnedObjectPath, OwnedVariant, Variant, connection, fdo};

use crate::error::{CtlError, Result};
use crate::global::Global;

/// `a{sv}` of a call.
pub type Options<'a> = HashMap<&'a str, Variant<'a>>;
/// `a{sv}` of a reply, sorted by key.
pub type Dict = BTreeMap<String, OwnedVariant>;

/// The object of a model.
#[zbus::proxy(
    interface = "org.hearthd.Inference1.Model",
    default_service = "org.hearthd.Inference1"
)]
pub trait Model {
    /// Releases its memory.
    #[zbus(allow_interactive_auth)]
    fn unload(&self) -> zbus::Result<()>;
}

/// The main object.
#[zbus::proxy(
    interface = "org.hearthd.Inference1",
    default_service = "org.hearthd.Inference1",
    default_path = "/org/hearthd/Inference1"
)]
pub trait Inference {
    /// Starts an answer; events are lines of JSON on the pipe.
    fn open_stream(
        &self,
        request: &str,
        options: &Options<'_>,
    ) -> zbus::Result<(OwnedObjectPath, OwnedFd)>;
    /// Queues a job that continues after its sender has disconnected.
    fn submit(&self, request: &str, options: &Options<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Returns the embedding vectors of texts.
    fn embed(&self, texts: &[String]) -> zbus::Result<Vec<Vec<f64>>>;
    /// Scores documents: their places and scores, the best match first.
    fn rerank(
        &self,
        query: &str,
        documents: &[&str],
        options: &Options<'_>,
    ) -> zbus::Result<Vec<(u32, f64)>>;
    /// Computes the beginning of conversations ahead of time.
    fn prewarm(&self, system_prompt: &str, options: &Options<'_>) -> zbus::Result<()>;
    /// Counts the tokens of a text.
    fn count_tokens(&self, text: &str) -> zbus::Result<u32>;
    /// Loads a model; returns when it is ready.
    #[zbus(allow_interactive_auth)]
    fn load_model(&self, name: &str, options: &Options<'_>) -> zbus::Result<()>;
    /// Stops the engine.
    #[zbus(allow_interactive_auth)]
    fn unload_model(&self) -> zbus::Result<()>;
    /// Returns the current state of the board.
    fn get_board(&self) -> zbus::Result<Dict>;
}

/// The installed models.
#[zbus::proxy(
    interface = "org.hearthd.Inference1.ModelStore",
    default_service = "org.hearthd.Inference1",
    default_path = "/org/hearthd/Inference1"
)]
pub trait ModelStore {
    /// Lists them, then the adapters.
    fn list(&self) -> zbus::Result<Vec<Dict>>;
    /// Copies a model from a file descriptor into the store.
    #[zbus(allow_interactive_auth)]
    fn import(&self, name: &str, file: Fd<'_>, options: &Options<'_>) -> zbus::Result<()>;
    /// Deletes a model from the store.
    #[zbus(allow_interactive_auth)]
    fn remove(&self, name: &str) -> zbus::Result<()>;
}

/// Measurements of models by threads.
#[zbus::proxy(
    interface = "org.hearthd.Inference1.Tuning",
    default_service = "org.hearthd.Inference1",
    default_path = "/org/hearthd/Inference1"
)]
pub trait Tuning {
    /// Measures a model by thread count.
    fn measure(&self, model: &str, options: &Options<'_>) -> zbus::Result<Dict>;
    /// Lists the stored results.
    fn list(&self) -> zbus::Result<Vec<Dict>>;
    /// Deletes the stored results.
    fn forget(&self) -> zbus::Result<()>;
}

/// The prompt cache on disk.
#[zbus::proxy(
    interface = "org.hearthd.Inference1.PromptCache",
    default_service = "org.hearthd.Inference1",
    default_path = "/org/hearthd/Inference1"
)]
pub trait PromptCache {
    /// Lists the cached prompts.
    fn list(&self) -> zbus::Result<Vec<Dict>>;
    /// Lists them and verifies their checksums.
    fn verify(&self) -> zbus::Result<Vec<Dict>>;
    /// Deletes cached prompts.
    #[zbus(allow_interactive_auth)]
    fn clear(&self) -> zbus::Result<u32>;
}

/// One job.
#[zbus::proxy(
    interface = "org.hearthd.Inference1.Job",
    default_service = "org.hearthd.Inference1"
)]
pub trait Job {
    /// Cancels the job.
    fn cancel(&self) -> zbus::Result<()>;
    /// Waits for the job to end; returns the OpenAI response as JSON.
    fn get_result(&self) -> zbus::Result<String>;
}

/// A connection and the main object on it.
#[derive(Clone, Debug)]
pub struct Bus {
    connection: Connection,
    /// The service's methods.
    pub service: InferenceProxy<'static>,
    /// The installed models.
    pub store: ModelStoreProxy<'static>,
    /// Measurements by threads.
    pub tuning: TuningProxy<'static>,
    /// Prompts on disk.
    pub prompts: PromptCacheProxy<'static>,
}

impl Bus {
    /// Connects to the bus. The first call starts the service.
    pub async fn connect(global: &Global) -> Result<Self> {
        let builder = match &global.bus_address {
            Some(address) => connection::Builder::address(address.as_str()),
            None => connection::Builder::system(),
        };
        // Any error here means that the service cannot be reached.
        let connection = builder
            .build()
            .await
            .map_err(|e| CtlError::Unreachable(e.to_string()))?;
        // Without the cache no signals accumulate unread while the user types.
        let service = InferenceProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        Ok(Self {
            store: ModelStoreProxy::new(&connection).await?,
            tuning: TuningProxy::new(&connection).await?,
            prompts: PromptCacheProxy::new(&connection).await?,
            service,
            connection,
        })
    }

    /// All properties of the main object.
    pub async fn properties(&self) -> Result<Dict> {
        self.properties_of(PATH, NAME).await
    }

    /// All properties of a job.
    pub async fn job_properties(&self, id: &str) -> Result<Dict> {
        self.properties_of(&format!("{JOBS}{id}"), JOB_INTERFACE)
            .await
    }

    /// All properties of a model.
    pub async fn model_properties(&self, name: &str) -> Result<Dict> {
        self.properties_of(&model_path(name), MODEL_INTERFACE).await
    }

    /// The methods of a model.
    pub async fn model(&self, name: &str) -> Result<ModelProxy<'static>> {
        Ok(ModelProxy::builder(&self.connection)
            .path(model_path(name))
            .cache_properties(CacheProperties::No)
            .build()
            .await?)
    }

    /// The state of the service, in one word.
    pub async fn state(&self) -> Result<String> {
        let state = self.service.inner().get_property::<String>("State").await?;
        Ok(state)
    }

    /// The methods of a job.
    pub async fn job(&self, id: &str) -> Result<JobProxy<'static>> {
        Ok(JobProxy::builder(&self.connection)
            .path(format!("{JOBS}{id}"))
            .cache_properties(CacheProperties::No)
            .build()
            .await?)
    }

    /// The properties of all jobs by id, in numerical order.
    pub async fn jobs(&self) -> Result<Vec<(String, Dict)>> {
        let manager = fdo::ObjectManagerProxy::builder(&self.connection)
            .destination(NAME)
            .path(PATH)
            .build()
            .await?;
        let mut jobs: Vec<_> = manager
            .get_managed_objects()
            .await?
            .into_iter()
            .filter_map(|(path, mut interfaces)| {
                let id = path.as_str().strip_prefix(JOBS)?.to_owned();
                let properties = interfaces.remove(JOB_INTERFACE)?;
                Some((id, properties.into_iter().collect::<Dict>()))
            })
            .collect();
        jobs.sort_by_cached_key(|(id, _)| (id.parse::<u64>().unwrap_or(u64::MAX), id.clone()));
        Ok(jobs)
    }

    async fn properties_of(&self, path: &str, interface: &str) -> Result<Dict> {
        let proxy = fdo::PropertiesProxy::builder(&self.connection)
            .destination(NAME)
            .path(path)
            .build()
            .await?;
        let interface = zbus::names::InterfaceName::try_from(interface)?;
        Ok(proxy.get_all(interface).await?.into_iter().collect())
    }
}
