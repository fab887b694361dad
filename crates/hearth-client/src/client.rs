//! A connection to the service.

use hearth_proto::bus::{JOB_INTERFACE, JOBS, MODEL_INTERFACE, NAME, PATH, model_path};
use zbus::names::InterfaceName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, ObjectPath, connection, fdo};

use crate::{
    Dict, InferenceProxy, JobProxy, ModelProxy, ModelStoreProxy, PromptCacheProxy, SessionProxy,
    TuningProxy,
};

/// A connection, and the proxies of the object that is always there. The first call starts the
/// service where it is installed.
///
/// The proxies do not cache properties: no signals accumulate in a program that does not read
/// them, and a property is read when it is asked for.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Connection,
    /// Answers, sessions, models in memory, and the state of the service.
    pub service: InferenceProxy<'static>,
    /// The installed models.
    pub store: ModelStoreProxy<'static>,
    /// Measurements by threads.
    pub tuning: TuningProxy<'static>,
    /// Prompts on disk.
    pub prompts: PromptCacheProxy<'static>,
}

impl Client {
    /// Connects to the system bus.
    ///
    /// # Errors
    /// There is no bus, or it refuses the connection.
    pub async fn system() -> zbus::Result<Self> {
        Self::new(connection::Builder::system().build().await?).await
    }

    /// Connects to the bus at an address, `unix:path=…`.
    ///
    /// # Errors
    /// The address is wrong, or there is no bus.
    pub async fn at(address: &str) -> zbus::Result<Self> {
        Self::new(connection::Builder::address(address).build().await?).await
    }

    /// Uses a connection to the bus.
    ///
    /// # Errors
    /// None that the bus could cause.
    pub async fn new(connection: Connection) -> zbus::Result<Self> {
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

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// An installed model, by its name.
    ///
    /// # Errors
    /// None that the bus could cause: a model that is not installed fails when it is called.
    pub async fn model(&self, name: &str) -> zbus::Result<ModelProxy<'static>> {
        ModelProxy::builder(&self.connection)
            .path(model_path(name))
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }

    /// A job, by the last part of its path.
    ///
    /// # Errors
    /// The id is no part of a path.
    pub async fn job(&self, id: &str) -> zbus::Result<JobProxy<'static>> {
        JobProxy::builder(&self.connection)
            .path(format!("{JOBS}{id}"))
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }

    /// A session, by the path that the service returned.
    ///
    /// # Errors
    /// None that the bus could cause.
    pub async fn session<'p>(
        &self,
        path: impl Into<ObjectPath<'p>>,
    ) -> zbus::Result<SessionProxy<'static>> {
        SessionProxy::builder(&self.connection)
            .path(path.into().into_owned())
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }

    /// All properties of the service that have a value now.
    ///
    /// # Errors
    /// Those of the bus.
    pub async fn properties(&self) -> zbus::Result<Dict> {
        self.properties_of(PATH, NAME).await
    }

    /// Those of a job.
    ///
    /// # Errors
    /// Those of the bus: `UnknownObject` where there is no such job.
    pub async fn job_properties(&self, id: &str) -> zbus::Result<Dict> {
        let path = format!("{JOBS}{id}");
        self.properties_of(&path, JOB_INTERFACE).await
    }

    /// Those of a model.
    ///
    /// # Errors
    /// Those of the bus: `UnknownObject` where no such model is installed.
    pub async fn model_properties(&self, name: &str) -> zbus::Result<Dict> {
        self.properties_of(&model_path(name), MODEL_INTERFACE).await
    }

    /// The properties of all jobs by id, in numerical order.
    ///
    /// # Errors
    /// Those of the bus.
    pub async fn jobs(&self) -> zbus::Result<Vec<(String, Dict)>> {
        let manager = fdo::ObjectManagerProxy::builder(&self.connection)
            .destination(NAME)
            .path(PATH)
            .build()
            .await?;
        let objects = manager.get_managed_objects().await?.into_iter();
        let jobs = objects.filter_map(|(path, mut interfaces)| {
            let id = path.as_str().strip_prefix(JOBS)?.to_owned();
            let properties = interfaces.remove(JOB_INTERFACE)?;
            Some((id, properties.into_iter().collect::<Dict>()))
        });
        let mut jobs: Vec<_> = jobs.collect();
        jobs.sort_by_cached_key(|(id, _)| (id.parse::<u64>().unwrap_or(u64::MAX), id.clone()));
        Ok(jobs)
    }

    async fn properties_of(&self, path: &str, interface: &str) -> zbus::Result<Dict> {
        let proxy = fdo::PropertiesProxy::builder(&self.connection)
            .destination(NAME)
            .path(path)
            .build()
            .await?;
        let interface = InterfaceName::try_from(interface)?;
        Ok(proxy.get_all(interface).await?.into_iter().collect())
    }
}
