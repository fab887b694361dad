//! One engine, from its hello to its end.

use std::collections::HashMap;
use std::io;

use hearth_proto::{
    ChatAbilities, Command, Event, Failure, FailureKind, GenerateRequest, Limits, LoadRequest,
    ModelInfo, PROTOCOL_VERSION, RequestId, Usage, framing,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::answers::{asked, character, part};
use crate::engine::Output;
use crate::script::{LoadFault, Script};
use crate::work::Work;

/// Numbers in a vector of a text: the frequencies of the letters.
const LETTERS: usize = 26;

/// Serves the engine's end of the socket until it ends.
pub(crate) async fn serve(socket: UnixStream, script: Script, record: impl Fn(&Command)) {
    let (read, write) = socket.into_split();
    let (sender, outputs) = mpsc::unbounded_channel();
    let mut session = Session {
        script,
        write,
        sender,
        tasks: JoinSet::new(),
        running: HashMap::new(),
        limits: watch::Sender::new(Limits::default()),
        prompts: Vec::new(),
        context: 0,
        ticks: 0,
        is_loading: false,
        is_hung: false,
    };
    // An error is the daemon's end of the socket being closed.
    _ = session.run(read, outputs, record).await;
}

struct Session {
    script: Script,
    write: OwnedWriteHalf,
    sender: mpsc::UnboundedSender<Output>,
    /// What is worked on; it ends with the session.
    tasks: JoinSet<()>,
    running: HashMap<RequestId, AbortHandle>,
    limits: watch::Sender<Limits>,
    /// Prompts of each user, which later ones may begin like.
    prompts: Vec<(Option<u32>, String)>,
    context: u32,
    ticks: u64,
    is_loading: bool,
    is_hung: bool,
}

impl Session {
    async fn run(
        &mut self,
        read: OwnedReadHalf,
        mut outputs: mpsc::UnboundedReceiver<Output>,
        record: impl Fn(&Command),
    ) -> io::Result<()> {
        if self.script.load == Some(LoadFault::NoHello) {
            return std::future::pending().await;
        }
        let protocol = match self.script.load {
            Some(LoadFault::OtherVersion) => PROTOCOL_VERSION + 1,
            _ => PROTOCOL_VERSION,
        };
        let version = "fake".into();
        self.send(&Event::Hello { protocol, version }).await?;
        let (sender, mut commands) = mpsc::unbounded_channel();
        self.tasks.spawn(read_commands(read, sender));
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    record(&command);
                    if matches!(command, Command::Shutdown) {
                        tokio::time::sleep(self.script.end_time).await;
                        return Ok(());
                    }
                    self.obey(command).await?;
                }
                Some(output) = outputs.recv() => match output {
                    Output::Event(event) => self.pass_on(event).await?,
                    Output::Crash => return Ok(()),
                    Output::Hang => {
                        self.is_hung = true;
                        self.running.drain().for_each(|(_, task)| task.abort());
                    }
                },
            }
        }
    }

    async fn obey(&mut self, command: Command) -> io::Result<()> {
        if self.is_hung && !matches!(command, Command::Ping { .. }) {
            return Ok(());
        }
        match command {
            Command::Load(request) => self.load(&request),
            Command::Generate(request) => self.generate(request).await?,
            Command::Cancel { id } => {
                if let Some(task) = self.running.remove(&id) {
                    task.abort();
                    let failure = Failure::cancelled();
                    self.send(&Event::Failed { id, failure }).await?;
                }
            }
            Command::Tokenize {
                id, text, pieces, ..
            } => {
                let tokens = text.chars().map(token).collect();
                let named = text.chars().filter(|_| pieces);
                let pieces = named.map(|c| c.to_string().into_bytes()).collect();
                let event = Event::Tokenized { id, tokens, pieces };
                self.send(&event).await?;
            }
            Command::Detokenize { id, tokens } => {
                let text = tokens.into_iter().map(character).collect();
                self.send(&Event::Detokenized { id, text }).await?;
            }
            Command::Render(request) => {
                let (id, text) = (request.id, asked(&request).into_owned());
                let tokens = text.chars().map(token).collect();
                self.send(&Event::Rendered { id, text, tokens }).await?;
            }
            Command::Embed {
                id,
                input,
                truncate,
            } => {
                let text: String = input.0.iter().map(part).collect();
                let longest = self.context.saturating_sub(1) as usize;
                let text = match text.char_indices().nth(longest) {
                    Some((end, _)) if truncate => text[..end].to_owned(),
                    _ => text,
                };
                let embedding = frequencies(&text);
                self.pool(id, &text, move |tokens| Event::Embedded {
                    id,
                    embedding,
                    tokens,
                })
                .await?;
            }
            Command::Rerank {
                id,
                query,
                document,
            } => {
                let score = likeness(&query, &document);
                self.pool(id, &document, move |tokens| Event::Ranked {
                    id,
                    score,
                    tokens,
                })
                .await?;
            }
            Command::SetLimits(limits) => {
                self.limits.send_replace(limits);
            }
            Command::Ping { seq } => {
                self.ticks += u64::from(!self.is_hung);
                let busy = self.is_hung || self.is_loading || !self.running.is_empty();
                let ticks = self.ticks;
                self.send(&Event::Pong { seq, ticks, busy }).await?;
            }
            Command::ForgetPrompts { uid } => {
                self.prompts.retain(|(of, _)| uid.is_some() && *of != uid);
            }
            Command::Shrink | Command::ReleaseDraft | Command::Shutdown => {}
        }
        Ok(())
    }

    fn load(&mut self, request: &LoadRequest) {
        self.limits.send_replace(request.limits);
        self.context = self.script.context.unwrap_or(request.context_size);
        self.is_loading = true;
        let output = match &self.script.load {
            None => Output::Event(Event::Loaded(self.info(request).into())),
            Some(LoadFault::Fails(failure)) => Output::Event(Event::LoadFailed(failure.clone())),
            Some(LoadFault::Hangs) => Output::Hang,
            Some(_) => Output::Crash,
        };
        let (sender, time) = (self.sender.clone(), self.script.load_time);
        self.tasks.spawn(async move {
            tokio::time::sleep(time).await;
            _ = sender.send(output);
        });
    }

    fn info(&self, request: &LoadRequest) -> ModelInfo {
        ModelInfo {
            description: "fake".into(),
            parameters: 1,
            size_bytes: 1,
            context_size: self.context,
            context_train: self.context,
            slots: self.script.slots.unwrap_or(request.slots).max(1),
            kv_tokens: self.context.saturating_add(request.kept_tokens),
            kv_token_bytes: 1,
            vocab_size: 1,
            cpu: "fake".into(),
            has_chat_template: false,
            kind: self.script.kind,
            chat: ChatAbilities::default(),
            vision: request.projector.is_some(),
            audio: request.projector.is_some(),
            draft_problem: match request.draft {
                Some(_) => self.script.draft_problem.clone(),
                None => String::new(),
            },
            bos_token: String::new(),
            eos_token: String::new(),
            sampling: Box::new(request.sampling.clone()),
            load_ms: u64::try_from(self.script.load_time.as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn generate(&mut self, request: GenerateRequest) -> io::Result<()> {
        let id = request.id;
        let prompt = asked(&request).into_owned();
        let prompt_tokens = count(&prompt);
        let context = request
            .context_max
            .map_or(self.context, |max| max.min(self.context));
        if prompt_tokens >= context {
            let failure = Failure::new(FailureKind::ContextTooLong, "it exceeds the context");
            return self.send(&Event::Failed { id, failure }).await;
        }
        let known = self.prompts.iter().filter(|(uid, _)| *uid == request.uid);
        let shared = known.map(|(_, known)| common(known, &prompt)).max();
        let cached_tokens = shared.unwrap_or(0).min(prompt_tokens.saturating_sub(1));
        self.prompts.push((request.uid, prompt));
        let work = Work {
            steps: self.script.answers.of(&request),
            usage: Usage {
                prompt_tokens,
                cached_tokens,
                ..Usage::default()
            },
            prefill_time: self.script.prefill_time,
            token_time: self.script.token_time,
            limits: self.limits.subscribe(),
            sender: self.sender.clone(),
            request,
        };
        self.running.insert(id, self.tasks.spawn(work.run()));
        Ok(())
    }

    /// Answers a request about a text after the time that its tokens take.
    async fn pool(
        &mut self,
        id: RequestId,
        text: &str,
        event: impl FnOnce(u32) -> Event + Send + 'static,
    ) -> io::Result<()> {
        let tokens = count(text);
        if text.starts_with("!crash") {
            _ = self.sender.send(Output::Crash);
            return Ok(());
        }
        if tokens >= self.context {
            let failure = Failure::new(FailureKind::ContextTooLong, "it exceeds the context");
            return self.send(&Event::Failed { id, failure }).await;
        }
        let (time, sender) = (self.script.prefill_time * tokens, self.sender.clone());
        self.tasks.spawn(async move {
            tokio::time::sleep(time).await;
            _ = sender.send(Output::Event(event(tokens)));
        });
        Ok(())
    }

    /// Sends an event of a task, unless the task was told to end.
    async fn pass_on(&mut self, event: Event) -> io::Result<()> {
        if self.is_hung {
            return Ok(());
        }
        match &event {
            Event::Loaded(_) => self.is_loading = false,
            Event::LoadFailed(_) => {
                self.send(&event).await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Event::Started { id, .. } | Event::Prefill { id, .. } | Event::Token { id, .. }
                if !self.running.contains_key(id) =>
            {
                return Ok(());
            }
            Event::Finished { id, .. } | Event::Failed { id, .. }
                if self.running.remove(id).is_none() =>
            {
                return Ok(());
            }
            _ => {}
        }
        self.send(&event).await
    }

    async fn send(&mut self, event: &Event) -> io::Result<()> {
        self.write.write_all(&framing::encode(event)?).await
    }
}

async fn read_commands(read: OwnedReadHalf, commands: mpsc::UnboundedSender<Command>) {
    let mut read = BufReader::new(read);
    while let Ok(command) = read_command(&mut read).await {
        if commands.send(command).is_err() {
            return;
        }
    }
}

async fn read_command(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Command> {
    let mut header = [0; framing::HEADER_BYTES];
    read.read_exact(&mut header).await?;
    let mut payload = vec![0; framing::payload_len(header)?];
    read.read_exact(&mut payload).await?;
    framing::decode(&payload)
}

fn count(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// How many tokens two texts have in common at their beginnings.
fn common(one: &str, other: &str) -> u32 {
    let pairs = one.chars().zip(other.chars());
    u32::try_from(pairs.take_while(|(a, b)| a == b).count()).unwrap_or(u32::MAX)
}

fn token(character: char) -> i32 {
    i32::try_from(u32::from(character)).unwrap_or_default()
}

/// The frequency of each letter, as a vector of length one.
fn frequencies(text: &str) -> Vec<f32> {
    let mut vector = [0.0_f32; LETTERS];
    for byte in text.bytes() {
        let at = usize::from(byte.to_ascii_lowercase().wrapping_sub(b'a'));
        if let Some(count) = vector.get_mut(at) {
            *count += 1.0;
        }
    }
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    vector.iter().map(|v| v / length.max(1.0)).collect()
}

/// How alike the letters of two texts are, from 0 to 1.
fn likeness(one: &str, other: &str) -> f32 {
    let pairs = frequencies(one).into_iter().zip(frequencies(other));
    pairs.map(|(a, b)| a * b).sum()
}
