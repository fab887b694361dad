//! The interfaces of the object `/org/hearthd/Inference1`.

use zbus::{Fd, OwnedFd, OwnedObjectPath};

use crate::{Dict, Options};

/// Answers, sessions, models in memory, and the state of the service.
#[zbus::proxy(
    interface = "org.hearthd.Inference1",
    default_service = "org.hearthd.Inference1",
    default_path = "/org/hearthd/Inference1"
)]
pub trait Inference {
    /// Answers a single prompt.
    fn generate(&self, prompt: &str) -> zbus::Result<String>;
    /// Answers a single prompt with JSON that is valid against the schema; an empty one allows
    /// any object.
    fn generate_json(&self, prompt: &str, json_schema: &str) -> zbus::Result<String>;
    /// Answers a chat-completions request of OpenAI's API; both are JSON.
    fn chat(&self, request: &str) -> zbus::Result<String>;
    /// Computes the embeddings of texts: vectors of length one, at most 1 MiB in all.
    fn embed(&self, texts: &[&str], options: &Options<'_>) -> zbus::Result<Vec<Vec<f64>>>;
    /// The same, into a file of little-endian floats of 32 bits; returns the numbers of each
    /// vector, too.
    fn embed_to_file(&self, texts: &[&str], options: &Options<'_>) -> zbus::Result<(OwnedFd, u32)>;
    /// Scores documents: their places and scores, the best match first.
    fn rerank(
        &self,
        query: &str,
        documents: &[&str],
        options: &Options<'_>,
    ) -> zbus::Result<Vec<(u32, f64)>>;
    /// Counts the tokens of a text.
    fn count_tokens(&self, text: &str, options: &Options<'_>) -> zbus::Result<u32>;
    /// Queues a chat request as a job that goes on after its sender has left.
    fn submit(&self, request: &str, options: &Options<'_>) -> zbus::Result<OwnedObjectPath>;
    /// The same, with its events on a pipe, see [`crate::Events`]; closing it cancels the job.
    fn open_stream(
        &self,
        request: &str,
        options: &Options<'_>,
    ) -> zbus::Result<(OwnedObjectPath, OwnedFd)>;
    /// Opens a conversation that the service stores; it ends when the caller leaves the bus.
    fn open_session(&self, options: &Options<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Has the beginning of conversations computed when the service is idle.
    fn prewarm(&self, system_prompt: &str, options: &Options<'_>) -> zbus::Result<()>;
    /// Loads a model, the default one without a name; returns when it is ready.
    #[zbus(allow_interactive_auth)]
    fn load_model(&self, name: &str, options: &Options<'_>) -> zbus::Result<()>;
    /// The same, as a job.
    #[zbus(allow_interactive_auth)]
    fn start_load_model(&self, name: &str, options: &Options<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Unloads all models.
    #[zbus(allow_interactive_auth)]
    fn unload_models(&self, options: &Options<'_>) -> zbus::Result<()>;
    /// Keeps a model in memory; returns the cookie to release it with.
    fn keep_loaded(&self, reason: &str, options: &Options<'_>) -> zbus::Result<u32>;
    /// Releases what [`Self::keep_loaded`] keeps.
    fn release_keep_loaded(&self, cookie: u32) -> zbus::Result<()>;
    /// Returns the current state of the board.
    fn get_board(&self) -> zbus::Result<Dict>;

    /// What [`Self::keep_loaded`] kept has left the memory before it was released.
    #[zbus(signal)]
    fn keep_loaded_ended(&self, cookie: u32) -> zbus::Result<()>;

    /// The package's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
    /// Features of the service.
    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> zbus::Result<Vec<String>>;
    /// `unloaded`, `loading`, `ready`, `busy`, `limited` or `failed`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// The loaded or loading model; empty if there is none.
    #[zbus(property)]
    fn model(&self) -> zbus::Result<String>;
    /// Its context in tokens; fails if none is loaded.
    #[zbus(property)]
    fn context_size(&self) -> zbus::Result<u32>;
    /// Compute threads that the governor allows now.
    #[zbus(property)]
    fn active_threads(&self) -> zbus::Result<u32>;
    /// The most compute threads.
    #[zbus(property)]
    fn max_threads(&self) -> zbus::Result<u32>;
    /// `cool`, `warm`, `hot`, `limit` or `emergency`.
    #[zbus(property)]
    fn thermal_state(&self) -> zbus::Result<String>;
    /// The hottest CPU zone; not a number without a sensor.
    #[zbus(property)]
    fn temperature_celsius(&self) -> zbus::Result<f64>;
    /// `normal`, `moderate`, `critical` or `emergency`.
    #[zbus(property)]
    fn memory_state(&self) -> zbus::Result<String>;
    /// Why the service is limited or failed; empty if it is not.
    #[zbus(property)]
    fn limit_reason(&self) -> zbus::Result<String>;
    /// Queued requests.
    #[zbus(property)]
    fn queue_length(&self) -> zbus::Result<u32>;
    /// Requests that the engine processes.
    #[zbus(property)]
    fn active_jobs(&self) -> zbus::Result<u32>;
    /// Decode speed of the last answer; fails before the first.
    #[zbus(property)]
    fn tokens_per_second(&self) -> zbus::Result<f64>;
    /// The engine's CPU kernels; empty before the first load.
    #[zbus(property)]
    fn cpu(&self) -> zbus::Result<String>;
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
    /// Copies a model from a file into the store, and checks it.
    #[zbus(allow_interactive_auth)]
    fn import(&self, name: &str, file: Fd<'_>, options: &Options<'_>) -> zbus::Result<()>;
    /// The same, as a job.
    #[zbus(allow_interactive_auth)]
    fn start_import(
        &self,
        name: &str,
        file: Fd<'_>,
        options: &Options<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    /// Deletes a model from the store.
    #[zbus(allow_interactive_auth)]
    fn remove(&self, name: &str, options: &Options<'_>) -> zbus::Result<()>;
}

/// Measurements of models by threads.
#[zbus::proxy(
    interface = "org.hearthd.Inference1.Tuning",
    default_service = "org.hearthd.Inference1",
    default_path = "/org/hearthd/Inference1"
)]
pub trait Tuning {
    /// Measures a model with each number of threads.
    fn measure(&self, model: &str, options: &Options<'_>) -> zbus::Result<Dict>;
    /// The same, as a job.
    fn start_measure(&self, model: &str, options: &Options<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Lists the stored measurements.
    fn list(&self) -> zbus::Result<Vec<Dict>>;
    /// Deletes the stored measurements.
    fn forget(&self, options: &Options<'_>) -> zbus::Result<()>;
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
    /// Deletes cached prompts; returns how many files.
    #[zbus(allow_interactive_auth)]
    fn clear(&self, options: &Options<'_>) -> zbus::Result<u32>;
}
