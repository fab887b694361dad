//! The object at `/org/hearthd/Inference1`.
//!
//! Each method only identifies its caller, translates, and calls an owner. It is longer than
//! other files since an interface is one `impl` block.

use std::collections::HashMap;

use hearth_api::openai::{chat_response, decode_chat};
use hearth_proto::{Answer, Failure, Submission};
use zbus::connection::Connection;
use zbus::message::Header;
use zbus::object_server::{ObjectServer, SignalEmitter};
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant, fdo, interface};

use super::callers::{BusCaller, Callers};
use super::changed::present;
use super::options::{self, Options};
use super::polkit::{self, Action};
use super::publish::{context_size, shown_celsius, speed};
use super::session_options::{self, SessionSettings};
use super::turn::{schema, turn};
use super::values::{board, ranks};
use super::{Error, FEATURES, embedding, jobs, models, sessions, stream};
use crate::daemon::{Daemon, Status};

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

    /// Waits for a complete answer.
    async fn answer(&self, peer: &BusCaller, submission: Submission) -> Result<Answer, Error> {
        let dispatcher = &self.daemon.dispatcher;
        let stream = dispatcher.submit(&peer.caller, submission).await?;
        peer.while_connected(stream.collect()).await
    }
}

#[expect(clippy::unused_self, reason = "properties are methods")]
#[interface(name = "org.hearthd.Inference1")]
impl Manager {
    /// Answers a single prompt, with the chat template of the model.
    #[zbus(out_args("text"))]
    async fn generate(
        &self,
        prompt: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        Ok(self.answer(&peer, turn(prompt)).await?.content)
    }

    /// Answers a single prompt with JSON that is valid against the JSON schema. An empty
    /// schema allows any object.
    #[zbus(out_args("json"))]
    async fn generate_json(
        &self,
        prompt: String,
        json_schema: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let mut submission = turn(prompt);
        submission.request.constraint = Some(schema(&json_schema)?);
        let answer = self.answer(&peer, submission).await?;
        Ok(answer.whole_json()?.content)
    }

    /// Answers a chat-completions request in the format of OpenAI's API.
    #[zbus(out_args("response"))]
    async fn chat(
        &self,
        request: String,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let request = decode_chat(request.as_bytes())?;
        let dispatcher = &self.daemon.dispatcher;
        let candidates = dispatcher.submit_candidates(&peer.caller, &request.submission, request.n);
        let candidates = candidates.await?;
        let answers = peer.while_connected(candidates.collect()).await?;
        Ok(chat_response(&answers).to_string())
    }

    /// Computes the embeddings of texts: vectors of length one, in the order of the texts. The
    /// reply has at most 1 MiB: for more, call `EmbedToFile`. Option: `model` (s): the name
    /// of a model.
    #[zbus(out_args("vectors"))]
    async fn embed(
        &self,
        texts: Vec<String>,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<Vec<f64>>, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let model = options::model(&options)?;
        embedding::check_reply(&self.daemon, &model, texts.len()).await?;
        let embedded = self.daemon.dispatcher.embed(&peer.caller, &model, texts);
        Ok(embedding::doubles(peer.while_connected(embedded).await?)?)
    }

    /// As `Embed`, into a file in memory: the numbers of all vectors in their order, each as a
    /// little-endian float of 32 bits; `dimensions` of them are one vector.
    #[zbus(out_args("vectors", "dimensions"))]
    async fn embed_to_file(
        &self,
        texts: Vec<String>,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(OwnedFd, u32), Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let model = options::model(&options)?;
        let embedded = self.daemon.dispatcher.embed(&peer.caller, &model, texts);
        let (file, dimensions) = embedding::file(&peer.while_connected(embedded).await?)?;
        Ok((file.into(), dimensions))
    }

    /// Scores how well documents match a query, with a reranker. Returns the place of each
    /// document in the list and its score, the best match first. Options: `model` (s): the
    /// name of a model; `top_n` (u): return only so many.
    #[zbus(out_args("results"))]
    async fn rerank(
        &self,
        query: String,
        documents: Vec<String>,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Vec<(u32, f64)>, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let request = options::rerank(query, documents, &options)?;
        let scored = self.daemon.dispatcher.rerank(&peer.caller, &request);
        Ok(ranks(&peer.while_connected(scored).await?))
    }

    /// Returns the number of tokens of a text, without a chat template. Option: `model` (s):
    /// the name of a model.
    #[zbus(out_args("tokens"))]
    async fn count_tokens(
        &self,
        text: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let dispatcher = &self.daemon.dispatcher;
        let model = options::model(&options)?;
        Ok(dispatcher.count_tokens(&peer.caller, &model, text).await?)
    }

    /// Enqueues a chat request as a job and returns at once. Options: `priority` (s):
    /// interactive, normal or background; `deadline_ms` (t or u): fail with
    /// `DeadlineExceeded` after this time; `cancel_when_gone` (b): cancel the job when its
    /// submitter leaves the bus; `images` (ah): pictures before the text of the user's last
    /// message, each a file of at most 12 MiB.
    #[zbus(out_args("job"))]
    async fn submit(
        &self,
        request: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let (submission, ends_with_caller) = jobs::decode(&request, &options).await?;
        let jobs = &self.daemon.jobs;
        let id = jobs.submit(&peer.caller, submission, jobs::response);
        let id = id.await?;
        if ends_with_caller {
            jobs::end_with_caller(&self.daemon, peer, id);
        }
        jobs::serve(&self.daemon, &self.callers, server, connection, id).await
    }

    /// As `Submit`, and writes the events as lines of JSON to a pipe. Closing the pipe cancels
    /// the job.
    #[zbus(out_args("job", "events"))]
    async fn open_stream(
        &self,
        request: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<(OwnedObjectPath, OwnedFd), Error> {
        let peer = self.callers.identify(&header, connection).await?;
        // Closing the pipe ends the job; a caller that has left the bus may still read from
        // it.
        let (submission, ends_with_caller) = jobs::decode(&request, &options).await?;
        let jobs = &self.daemon.jobs;
        let job = jobs.submit_streamed(&peer.caller, submission, jobs::response);
        let (request, events) = job.await?;
        let reader = stream::of_job(&self.daemon, peer.caller.clone(), request, events)?;
        let id = request.number();
        if ends_with_caller {
            jobs::end_with_caller(&self.daemon, peer, id);
        }
        let path = jobs::serve(&self.daemon, &self.callers, server, connection, id).await?;
        Ok((path, reader.into()))
    }

    /// Opens a session: a conversation that the service stores until it is closed or its
    /// owner leaves the bus. Options, which apply to every turn: `system` (s): the system
    /// prompt; `model` (s): the name of a model; `temperature`, `top_p`, `min_p`,
    /// `repeat_penalty`, `presence_penalty` and `frequency_penalty` (d), `top_k`,
    /// `repeat_last_n`, `seed` and `max_tokens` (u), `stop` (as), `truncation` (s),
    /// `priority` (s; default interactive), `tool_choice` (s) and `parallel_tool_calls` (b): as
    /// in a request of `Chat`; `tools` (s): a JSON list.
    #[zbus(out_args("session"))]
    async fn open_session(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let SessionSettings {
            system,
            options,
            tools,
        } = session_options::session(&options)?;
        let (sessions, caller) = (&self.daemon.sessions, &peer.caller);
        let id = sessions.open(caller, system, options, tools)?;
        sessions::serve(&self.daemon, &self.callers, connection, peer, id).await
    }

    /// Computes the common prefix of conversations into the prefix cache, at background
    /// priority; returns once it is queued. Options: `model` (s): the name of a model;
    /// `messages` (s): further messages of the prefix, as a JSON list; `tools` (s): the tools
    /// of the conversations, as a JSON list; `cancel_when_gone` (b): cancel it when the
    /// caller leaves the bus.
    async fn prewarm(
        &self,
        system_prompt: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let (prewarm, ends_with_caller) = options::prewarm(system_prompt, &options)?;
        let dispatcher = &self.daemon.dispatcher;
        if let Some(stream) = dispatcher.prewarm(&peer.caller, prewarm).await? {
            peer.finish_detached(stream, ends_with_caller);
        }
        Ok(())
    }

    /// Loads a model and waits until it is ready. An empty name means the default model. There
    /// are no options yet.
    async fn load_model(
        &self,
        name: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        options::check(&options, &[])?;
        let peer = self.callers.identify(&header, connection).await?;
        polkit::check(&peer, &header, connection, Action::LoadModel).await?;
        let model = name.as_str().into();
        Ok(self.daemon.pool.load(&peer.caller, &model).await?)
    }

    /// As `LoadModel`, as a job. Option: `cancel_when_gone` (b): cancel it when the caller
    /// leaves the bus.
    #[zbus(out_args("job"))]
    async fn start_load_model(
        &self,
        name: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath, Error> {
        let ends_with_caller = options::job(&options)?;
        let peer = self.callers.identify(&header, connection).await?;
        polkit::check(&peer, &header, connection, Action::LoadModel).await?;
        let (daemon, model) = (&self.daemon, name.as_str().into());
        let id = daemon.start_load(&peer.caller, &model).await?;
        jobs::serve_started(
            daemon,
            &self.callers,
            connection,
            peer,
            ends_with_caller,
            id,
        )
        .await
    }

    /// Unloads all models and frees their memory. There are no options yet.
    async fn unload_models(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        options::check(&options, &[])?;
        let peer = self.callers.identify(&header, connection).await?;
        polkit::check(&peer, &header, connection, Action::UnloadModel).await?;
        Ok(self.daemon.pool.unload(&peer.caller, None).await?)
    }

    /// Takes an inhibitor: the model is loaded if necessary and stays in memory until the
    /// cookie is given to `ReleaseKeepLoaded` or the caller leaves the bus. The reason is
    /// logged and shown in the model's `Holds`. Option: `model` (s): the name of a model
    /// (default: the loaded or the default one).
    #[zbus(out_args("cookie"))]
    async fn keep_loaded(
        &self,
        reason: String,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<u32, Error> {
        let peer = self.callers.identify(&header, connection).await?;
        let model = options::model(&options)?;
        models::keep_loaded(&self.daemon, peer, &model, &reason, emitter.to_owned()).await
    }

    /// An inhibitor of `KeepLoaded` has ended before it was released: the model was unloaded by
    /// someone who may, or because memory is short, or cannot be loaded again. Sent to its
    /// owner only.
    #[zbus(signal)]
    pub(super) async fn keep_loaded_ended(
        emitter: &SignalEmitter<'_>,
        cookie: u32,
    ) -> zbus::Result<()>;

    /// Releases an inhibitor of `KeepLoaded`.
    async fn release_keep_loaded(
        &self,
        cookie: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        let peer = self.callers.identify(&header, connection).await?;
        if self.daemon.pool.release(&peer.caller, cookie) {
            return Ok(());
        }
        let message = format!(
            "this caller has no cookie {cookie}: it was already released, or belongs to another"
        );
        Err(Failure::invalid(message).into())
    }

    /// Returns the state of the board: temperature, limits, memory, and the governor's last
    /// decisions. Values that the board does not provide are omitted.
    #[zbus(out_args("board"))]
    async fn get_board(&self) -> HashMap<&'static str, OwnedVariant> {
        let sources = self.daemon.board.sources().await;
        board(self.daemon.board_snapshot().await, sources)
    }

    /// The package's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Features of this build.
    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> Vec<&'static str> {
        FEATURES.to_vec()
    }

    /// unloaded, loading, ready, busy, limited or failed.
    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.status().state.as_str()
    }

    /// The loaded or loading model; empty if there is none.
    #[zbus(property)]
    fn model(&self) -> String {
        self.status().model
    }

    /// Context size in tokens. Absent if no model is loaded.
    #[zbus(property)]
    fn context_size(&self) -> fdo::Result<u32> {
        present(context_size(&self.status()), "no model is loaded")
    }

    /// Compute threads that the governor allows now.
    #[zbus(property)]
    fn active_threads(&self) -> u32 {
        self.status().active_threads
    }

    /// Maximum number of compute threads.
    #[zbus(property)]
    fn max_threads(&self) -> u32 {
        self.status().max_threads
    }

    /// cool, warm, hot, limit or emergency.
    #[zbus(property)]
    async fn thermal_state(&self) -> &'static str {
        self.daemon.board.recent().await.verdict.thermal.as_str()
    }

    /// Temperature of the hottest CPU zone in steps of 0.5; not a number (NaN) without a sensor.
    /// Its changes are announced at most once a second.
    #[zbus(property)]
    async fn temperature_celsius(&self) -> f64 {
        let celsius = self.daemon.board.recent().await.temperature_celsius();
        celsius.map_or(f64::NAN, shown_celsius)
    }

    /// normal, moderate, critical or emergency.
    #[zbus(property)]
    async fn memory_state(&self) -> &'static str {
        self.daemon.board.recent().await.verdict.memory.as_str()
    }

    /// Why the service is limited or failed; empty if it is not.
    #[zbus(property)]
    fn limit_reason(&self) -> String {
        self.status().limit_reason
    }

    /// Number of queued requests.
    #[zbus(property)]
    fn queue_length(&self) -> u32 {
        self.status().queue_length
    }

    /// Number of requests that the engine processes.
    #[zbus(property)]
    fn active_jobs(&self) -> u32 {
        self.status().active_jobs
    }

    /// Decode speed of the last finished answer, in tokens per second. Absent before the first.
    #[zbus(property)]
    fn tokens_per_second(&self) -> fdo::Result<f64> {
        present(speed(&self.status()), "there was no answer yet")
    }

    /// The engine's CPU kernels; empty before the first load.
    #[zbus(property)]
    fn cpu(&self) -> String {
        self.status().cpu
    }
}
