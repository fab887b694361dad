//! The object at `/org/hearthd/Inference1`.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd as StdFd;
use std::slice::from_ref;

use hearth_api::openai::{chat_response, decode_chat};
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::object_server::ObjectServer;
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant, interface};

use super::callers::{Callers, Present};
use super::options::{self, Options};
use super::polkit::{self, Action};
use super::turn::{schema, turn};
use super::values::{board, entry, prompt_entry, tuning};
use super::{Error, jobs, sessions, stream};
use hearth_proto::{Answer, Failure, ModelRef, Submission};

use crate::daemon::{Daemon, Status};

/// Features of this build, for clients that want to check before a call.
const FEATURES: &[&str] = &[
    "chat",
    "constrained-output",
    "count-tokens",
    "embeddings",
    "http-openai",
    "import",
    "jobs",
    "prewarm",
    "sessions",
    "stream",
    "tool-calls",
    "tune",
];

/// The interface `org.hearthd.Inference1`.
#[derive(Debug)]
pub struct Manager {
    daemon: Daemon,
    callers: Callers,
}

impl Manager {
    /// Creates the object for a service.
    pub fn new(daemon: Daemon) -> Self {
        Self {
            callers: Callers::new(daemon.board.clone()),
            daemon,
        }
    }

    pub(super) fn callers(&self) -> &Callers {
        &self.callers
    }

    fn status(&self) -> Status {
        self.daemon.status()
    }

    /// Waits for a complete answer, as [`Self::until_left`] does.
    async fn answer(&self, present: &Present, submission: Submission) -> Result<Answer, Error> {
        let stream = self
            .daemon
            .dispatcher
            .submit(&present.caller, submission)
            .await?;
        Self::until_left(present, stream.collect()).await
    }

    /// Waits for the result that a caller requested, or until the caller leaves the bus:
    /// then the work is dropped, and its requests with it.
    async fn until_left<T>(
        present: &Present,
        wanted: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Error> {
        tokio::select! {
            done = wanted => Ok(done?),
            () = present.left() => Err(Failure::cancelled().into()),
        }
    }
}

#[expect(clippy::unused_self, reason = "properties are methods")]
#[interface(name = "org.hearthd.Inference1")]
impl Manager {
    /// One turn through the model's chat template.
    #[zbus(out_args("text"))]
    async fn generate(
        &self,
        prompt: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let present = self.callers.identify(&header, connection).await?;
        Ok(self.answer(&present, turn(prompt)).await?.content)
    }

    /// One turn whose answer is JSON, valid against the JSON schema; an empty schema
    /// means any object.
    #[zbus(out_args("json"))]
    async fn generate_json(
        &self,
        prompt: String,
        json_schema: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let mut submission = turn(prompt);
        submission.request.constraint = Some(schema(&json_schema)?);
        let answer = self.answer(&present, submission).await?;
        Ok(answer.whole_json()?.content)
    }

    /// An OpenAI chat-completions request as JSON, and its response.
    #[zbus(out_args("response"))]
    async fn chat(
        &self,
        request: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let request = decode_chat(request.as_bytes())?;
        let candidates = self
            .daemon
            .dispatcher
            .submit_candidates(&present.caller, &request.submission, request.n)
            .await?;
        let answers = Self::until_left(&present, candidates.collect()).await?;
        Ok(chat_response(&answers).to_string())
    }

    /// The vectors of texts, each of length one, in their order.
    #[zbus(out_args("vectors"))]
    async fn embed(
        &self,
        texts: Vec<String>,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<Vec<f64>>, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let made = tokio::select! {
            made = self.daemon.dispatcher.embed(&present.caller, &ModelRef::Default, texts) => made?,
            () = present.left() => return Err(Failure::cancelled().into()),
        };
        let vectors = made.vectors.into_iter();
        Ok(vectors
            .map(|v| v.into_iter().map(f64::from).collect())
            .collect())
    }

    /// Tokens of a text, without template.
    #[zbus(out_args("tokens"))]
    async fn count_tokens(
        &self,
        text: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, Error> {
        let present = self.callers.identify(&header, connection).await?;
        Ok(self
            .daemon
            .dispatcher
            .count_tokens(&present.caller, text)
            .await?)
    }

    /// Admits a chat request as a job and returns at once. Options: `priority` (s) is
    /// interactive, normal or background; `deadline_ms` (t or u) gives up after so long;
    /// with `cancel_when_gone` (b) the job ends when its submitter leaves the bus.
    #[zbus(out_args("job"))]
    async fn submit(
        &self,
        request: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let mut request = decode_chat(request.as_bytes())?.single()?;
        let ends_with_caller = options::apply(&options, &mut request.submission)?;
        let id = self
            .daemon
            .jobs
            .submit(&present.caller, request.submission, |answer| {
                chat_response(from_ref(answer)).to_string()
            })
            .await?;
        if ends_with_caller {
            jobs::end_with_caller(&self.daemon, present, id);
        }
        jobs::serve(&self.daemon, &self.callers, server, connection, id).await
    }

    /// As `Submit`, with the events as lines of JSON on a pipe; closing it cancels.
    #[zbus(out_args("job", "events"))]
    async fn open_stream(
        &self,
        request: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<(OwnedObjectPath, OwnedFd), Error> {
        let present = self.callers.identify(&header, connection).await?;
        let mut request = decode_chat(request.as_bytes())?.single()?;
        // Closing the pipe ends the job; a caller that has left the bus may still read from
        // it.
        let ends_with_caller = options::apply(&options, &mut request.submission)?;
        let (id, events) = self
            .daemon
            .jobs
            .submit_streamed(&present.caller, request.submission, |answer| {
                chat_response(from_ref(answer)).to_string()
            })
            .await?;
        let reader = stream::start(&self.daemon, present.caller.clone(), id, events)?;
        if ends_with_caller {
            jobs::end_with_caller(&self.daemon, present, id);
        }
        let path = jobs::serve(&self.daemon, &self.callers, server, connection, id).await?;
        Ok((path, reader.into()))
    }

    /// Opens a session: a conversation that the service keeps, until it is closed or its
    /// owner leaves the bus. Options, all of them for every turn: `system` (s) is the system
    /// prompt; `model` (s) a model's name; `temperature`, `top_p`, `min_p`,
    /// `repeat_penalty`, `presence_penalty` and `frequency_penalty` (d), `top_k`,
    /// `repeat_last_n`, `seed` and `max_tokens` (u), `stop` (as), `truncation` (s) and
    /// `priority` (s, else interactive) are what they are in a request of `Chat`.
    #[zbus(out_args("session"))]
    async fn open_session(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let (system, options) = options::session(&options)?;
        let id = self
            .daemon
            .sessions
            .open(&present.caller, system, options)?;
        sessions::serve(&self.daemon, &self.callers, connection, present, id).await
    }

    /// Has the beginning of conversations with this system prompt computed when nothing
    /// else is to do, and kept; returns once it is queued. Options: `model` (s), and as
    /// JSON lists `messages` (s), further ones that they all have, and `tools` (s), as the
    /// conversations will offer them; with `cancel_when_gone` (b) it ends when the caller
    /// leaves the bus.
    async fn prewarm(
        &self,
        system_prompt: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let present = self.callers.identify(&header, connection).await?;
        let (prewarm, ends_with_caller) = options::prewarm(system_prompt, &options)?;
        if let Some(stream) = self
            .daemon
            .dispatcher
            .prewarm(&present.caller, prewarm)
            .await?
        {
            tokio::spawn(async move {
                let gone = async {
                    if ends_with_caller {
                        present.left().await;
                    } else {
                        std::future::pending::<()>().await;
                    }
                };
                // Nobody waits for it: the journal reports how it ended.
                tokio::select! {
                    _ = stream.collect() => {}
                    () = gone => {}
                }
            });
        }
        Ok(())
    }

    /// The installed models.
    #[zbus(out_args("models"))]
    async fn list_models(&self) -> Vec<HashMap<&'static str, OwnedVariant>> {
        self.daemon.models().await.into_iter().map(entry).collect()
    }

    /// Loads a model and waits until it is ready; an empty name means the default. It
    /// knows no options yet.
    async fn load_model(
        &self,
        name: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        options::check(&options, &[])?;
        let present = self.callers.identify(&header, connection).await?;
        polkit::check(&present, &header, connection, Action::LoadModel).await?;
        Ok(self
            .daemon
            .pool
            .load(&present.caller, &name.as_str().into())
            .await?)
    }

    /// Gives the model's memory back.
    async fn unload_model(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let present = self.callers.identify(&header, connection).await?;
        polkit::check(&present, &header, connection, Action::UnloadModel).await?;
        Ok(self.daemon.pool.unload(&present.caller).await?)
    }

    /// Keeps the model in memory, loading it where needed, until the cookie is released
    /// or the caller leaves the bus. The reason is for people.
    async fn keep_loaded(
        &self,
        reason: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let cookie = self
            .daemon
            .pool
            .inhibit_unload(&present.caller, &reason)
            .await?;
        let daemon = self.daemon.clone();
        tokio::spawn(async move {
            present.left().await;
            daemon.pool.release(&present.caller, cookie);
        });
        Ok(cookie)
    }

    /// Ends a hold of `KeepLoaded`.
    async fn release_keep_loaded(
        &self,
        cookie: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let present = self.callers.identify(&header, connection).await?;
        if self.daemon.pool.release(&present.caller, cookie) {
            return Ok(());
        }
        let message =
            format!("you have no cookie {cookie}: it was released already, or is another's");
        Err(Failure::invalid(message).into())
    }

    /// Copies a model file, checks it, and gives it a name. It knows no options yet.
    async fn import_model(
        &self,
        name: String,
        file: OwnedFd,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        options::check(&options, &[])?;
        let present = self.callers.identify(&header, connection).await?;
        let allowed = polkit::check(&present, &header, connection, Action::ImportModel).await?;
        let file = File::from(StdFd::from(file));
        let (store, caller) = (&self.daemon.store, &present.caller);
        Ok(store.import(caller, allowed, &name, file).await?)
    }

    /// Deletes an imported model.
    async fn remove_model(
        &self,
        name: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let present = self.callers.identify(&header, connection).await?;
        let allowed = polkit::check(&present, &header, connection, Action::RemoveModel).await?;
        Ok(self
            .daemon
            .remove_model(&present.caller, allowed, &name)
            .await?)
    }

    /// The prompts kept on disk, the caller's and those that are shared; all for root.
    async fn list_prompts(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<HashMap<&'static str, OwnedVariant>>, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let prompts = self.daemon.prompts.list(&present.caller, false).await?;
        Ok(prompts.into_iter().map(prompt_entry).collect())
    }

    /// The same, but each is read as a whole and compared with its checksums.
    async fn verify_prompts(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<HashMap<&'static str, OwnedVariant>>, Error> {
        let present = self.callers.identify(&header, connection).await?;
        let prompts = self.daemon.prompts.list(&present.caller, true).await?;
        Ok(prompts.into_iter().map(prompt_entry).collect())
    }

    /// Deletes the caller's kept prompts, in memory and on disk; all of them for root.
    async fn clear_prompts(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, Error> {
        let present = self.callers.identify(&header, connection).await?;
        polkit::check(&present, &header, connection, Action::ClearCache).await?;
        Ok(self.daemon.prompts.clear(&present.caller).await?)
    }

    /// The board now: temperature, limits, memory, and what was concluded from them last.
    /// What the board does not have is left out.
    #[zbus(out_args("board"))]
    async fn get_board(&self) -> HashMap<&'static str, OwnedVariant> {
        board(self.daemon.board_snapshot().await)
    }

    /// Measures how fast a model is with 1, 2, … threads, when the board is cool and idle,
    /// and uses the result from then on; an empty name means the loaded or default model.
    /// `GetBoard` says how far it is. Ends when the caller leaves the bus.
    #[zbus(out_args("tuning"))]
    async fn tune(
        &self,
        model: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<HashMap<&'static str, OwnedVariant>, Error> {
        let wait = options::tune(&options)?;
        let present = self.callers.identify(&header, connection).await?;
        let model = ModelRef::from(model.as_str());
        let measured = self.daemon.tuner.tune(&present.caller, &model, wait);
        Ok(tuning(&Self::until_left(&present, measured).await?))
    }

    /// What has been measured.
    #[zbus(out_args("tunings"))]
    fn list_tunings(&self) -> Vec<HashMap<&'static str, OwnedVariant>> {
        self.daemon.tuner.list().iter().map(tuning).collect()
    }

    /// Forgets what has been measured.
    async fn forget_tunings(&self) -> Result<(), Error> {
        Ok(self.daemon.tuner.forget().await?)
    }

    /// The package's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// What this build can do.
    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> Vec<&'static str> {
        FEATURES.to_vec()
    }

    /// unloaded, loading, ready, busy, limited or failed.
    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.status().state.as_str()
    }

    /// The loaded or loading model; empty when none.
    #[zbus(property)]
    fn model(&self) -> String {
        self.status().model
    }

    /// Context in tokens; 0 when no model is loaded.
    #[zbus(property)]
    fn context_size(&self) -> u32 {
        self.status().context_size
    }

    /// Threads that compute may use now.
    #[zbus(property)]
    fn active_threads(&self) -> u32 {
        self.status().active_threads
    }

    /// Threads that compute may use at most.
    #[zbus(property)]
    fn max_threads(&self) -> u32 {
        self.status().max_threads
    }

    /// cool, warm, hot, limit or emergency.
    #[zbus(property)]
    async fn thermal_state(&self) -> &'static str {
        self.daemon.board.recent().await.verdict.thermal.as_str()
    }

    /// The hottest CPU zone; 0 where the board has none.
    #[zbus(property)]
    async fn temperature_celsius(&self) -> f64 {
        self.daemon.board.recent().await.temperature_celsius()
    }

    /// normal, moderate, critical or emergency.
    #[zbus(property)]
    async fn memory_state(&self) -> &'static str {
        self.daemon.board.recent().await.verdict.memory.as_str()
    }

    /// Why the service is limited or failed; empty when it is not.
    #[zbus(property)]
    fn limit_reason(&self) -> String {
        self.status().limit_reason
    }

    /// Requests waiting.
    #[zbus(property)]
    fn queue_length(&self) -> u32 {
        self.status().queue_length
    }

    /// Requests that the engine works on.
    #[zbus(property)]
    fn active_jobs(&self) -> u32 {
        self.status().active_jobs
    }

    /// Decode speed of the last finished answer.
    #[zbus(property)]
    fn tokens_per_second(&self) -> f64 {
        self.status().tokens_per_second
    }

    /// The engine's CPU kernels; empty before the first load.
    #[zbus(property)]
    fn cpu(&self) -> String {
        self.status().cpu
    }
}
