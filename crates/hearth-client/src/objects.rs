//! The objects that come and go: models, jobs and sessions.

use zbus::{OwnedFd, OwnedObjectPath};

use crate::{Dict, Options};

/// An installed model.
#[zbus::proxy(
    interface = "org.hearthd.Inference1.Model",
    default_service = "org.hearthd.Inference1"
)]
pub trait Model {
    /// Loads it and waits until it is ready.
    #[zbus(allow_interactive_auth)]
    fn load(&self, options: &Options<'_>) -> zbus::Result<()>;
    /// Releases its memory.
    #[zbus(allow_interactive_auth)]
    fn unload(&self, options: &Options<'_>) -> zbus::Result<()>;

    /// The name, as in requests.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> zbus::Result<String>;
    /// `unloaded`, `waiting`, `loading`, `ready` or `unloading`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// Size of its file.
    #[zbus(property)]
    fn size_bytes(&self) -> zbus::Result<u64>;
    /// The memory that it may take; 0 if it is not in memory.
    #[zbus(property)]
    fn memory_bytes(&self) -> zbus::Result<u64>;
    /// Its context in tokens; fails until it has been loaded.
    #[zbus(property)]
    fn context_size(&self) -> zbus::Result<u32>;
    /// What it can be asked for.
    #[zbus(property)]
    fn tasks(&self) -> zbus::Result<Vec<String>>;
    /// The draft model in memory with it; empty without one.
    #[zbus(property)]
    fn draft(&self) -> zbus::Result<String>;
    /// What keeps it in memory: `owner`, `reason`, `seconds_left`.
    #[zbus(property)]
    fn holds(&self) -> zbus::Result<Vec<Dict>>;
    /// When it was last used, in seconds since 1970; fails if it is not in memory.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_use(&self) -> zbus::Result<u64>;
}

/// Work whose result is stored.
#[zbus::proxy(
    interface = "org.hearthd.Inference1.Job",
    default_service = "org.hearthd.Inference1"
)]
pub trait Job {
    /// Cancels it.
    fn cancel(&self) -> zbus::Result<()>;
    /// Changes the priority of a queued request.
    fn set_priority(&self, priority: &str) -> zbus::Result<()>;
    /// Waits for it to end; returns the result as JSON.
    fn get_result(&self) -> zbus::Result<String>;

    /// It has ended: the state, the result or the message, and the name of the error.
    #[zbus(signal)]
    fn finished(&self, state: &str, result: &str, error: &str) -> zbus::Result<()>;

    /// `generate`, `load-model`, `import-model` or `measure-model`.
    #[zbus(property(emits_changed_signal = "const"))]
    fn operation(&self) -> zbus::Result<String>;
    /// The model's name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn model(&self) -> zbus::Result<String>;
    /// When it was created, in seconds since 1970.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created(&self) -> zbus::Result<u64>;
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// How much of it is done, 0 to 1; fails while that is not known.
    #[zbus(property)]
    fn progress(&self) -> zbus::Result<f64>;
    /// Position in the queue, 0 is next; fails if it is not queued.
    #[zbus(property)]
    fn queue_position(&self) -> zbus::Result<u32>;
    /// Tokens so far; fails if it is no request.
    #[zbus(property)]
    fn tokens_generated(&self) -> zbus::Result<u32>;
    /// `interactive`, `normal` or `background`; fails if it is no request.
    #[zbus(property)]
    fn priority(&self) -> zbus::Result<String>;
    /// User id of its owner.
    #[zbus(property(emits_changed_signal = "const"))]
    fn uid(&self) -> zbus::Result<u32>;
    /// Unique bus name of its submitter.
    #[zbus(property(emits_changed_signal = "const"))]
    fn sender(&self) -> zbus::Result<String>;
    /// The submitter's systemd unit; fails if it is not known.
    #[zbus(property(emits_changed_signal = "const"))]
    fn unit(&self) -> zbus::Result<String>;
}

/// A conversation that the service stores.
#[zbus::proxy(
    interface = "org.hearthd.Inference1.Session",
    default_service = "org.hearthd.Inference1"
)]
pub trait Session {
    /// Adds to the user's next turn.
    fn append(&self, text: &str) -> zbus::Result<()>;
    /// Adds the user's turn and the model's answer; returns its text.
    fn generate(&self, text: &str, options: &Options<'_>) -> zbus::Result<String>;
    /// The same; returns the response of OpenAI's API as JSON, with calls of tools.
    fn chat(&self, text: &str, options: &Options<'_>) -> zbus::Result<String>;
    /// The same, with its events on a pipe, see [`crate::Events`]; closing it cancels the
    /// answer.
    fn open_stream(&self, text: &str, options: &Options<'_>) -> zbus::Result<OwnedFd>;
    /// Adds the result of a call of the last answer, by its id.
    fn add_tool_result(&self, call: &str, content: &str) -> zbus::Result<()>;
    /// Opens a session that begins with a copy of this conversation.
    fn clone(&self) -> zbus::Result<OwnedObjectPath>;
    /// Discards the conversation; a running answer is cancelled.
    fn close(&self) -> zbus::Result<()>;

    /// `idle` or `answering`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// Answers in the conversation.
    #[zbus(property)]
    fn turns(&self) -> zbus::Result<u32>;
    /// Prompt tokens of the last answer.
    #[zbus(property)]
    fn prompt_tokens(&self) -> zbus::Result<u32>;
    /// Of these, tokens from the prefix cache.
    #[zbus(property)]
    fn cached_tokens(&self) -> zbus::Result<u32>;
    /// User id of its owner.
    #[zbus(property(emits_changed_signal = "const"))]
    fn uid(&self) -> zbus::Result<u32>;
    /// Unique bus name of the caller that opened it.
    #[zbus(property(emits_changed_signal = "const"))]
    fn sender(&self) -> zbus::Result<String>;
}
