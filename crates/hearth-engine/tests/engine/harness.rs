//! One engine process and the daemon's end of its socket.

use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hearth_proto::{
    AnswerPart, Command, Event, Failure, FinishReason, GenerateRequest, KvType, Limits,
    LoadRequest, Message, ModelInfo, Prompt, RequestId, Sampling, ToolCall, Usage, framing,
};

use crate::ENGINE;

/// Longest wait for one event: the machine that runs the tests may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Engine {
    pub child: Child,
    socket: UnixStream,
    events: BufReader<UnixStream>,
}

/// The collected events of a request.
#[derive(Debug, Default)]
pub struct Answer {
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<ToolCall>,
    pub parts: Vec<AnswerPart>,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub prefills: Vec<u32>,
    pub tokens: u32,
    pub end: Option<Result<(FinishReason, Usage), Failure>>,
}

impl Answer {
    pub fn reason(&self) -> FinishReason {
        self.end.as_ref().unwrap().as_ref().unwrap().0
    }

    pub fn usage(&self) -> Usage {
        self.end.as_ref().unwrap().as_ref().unwrap().1
    }

    pub fn failure(&self) -> &Failure {
        self.end.as_ref().unwrap().as_ref().unwrap_err()
    }
}

impl Engine {
    /// Starts the process and reads its `Hello`.
    pub fn start(args: &[&str]) -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        let child = Process::new(ENGINE)
            .args(args)
            .env("HEARTH_LOG", "error")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let events = BufReader::new(socket.try_clone().unwrap());
        let mut engine = Self {
            child,
            socket,
            events,
        };
        assert!(matches!(engine.next(), Event::Hello { .. }));
        engine
    }

    /// An engine with a model file, loaded.
    pub fn with_model(path: &Path) -> Self {
        let mut engine = Self::start(&[]);
        engine.load(&load(path)).unwrap();
        engine
    }

    pub fn send(&mut self, command: &Command) {
        framing::write(&mut self.socket, command).unwrap();
    }

    pub fn try_next(&mut self) -> io::Result<Option<Event>> {
        framing::read(&mut self.events)
    }

    pub fn next(&mut self) -> Event {
        self.try_next()
            .unwrap()
            .expect("the engine closed the socket")
    }

    pub fn load(&mut self, request: &LoadRequest) -> Result<ModelInfo, Failure> {
        self.send(&Command::Load(request.clone()));
        let mut last = 0.0;
        loop {
            match self.next() {
                Event::Loading { progress } => {
                    assert!(progress >= last && progress <= 1.0);
                    last = progress;
                }
                Event::Loaded(info) => return Ok(*info),
                Event::LoadFailed(failure) => return Err(failure),
                other => panic!("{other:?} while loading"),
            }
        }
    }

    /// Collects the events of one request up to its last; others are an error.
    pub fn collect(&mut self, id: u64) -> Answer {
        let mut answer = Answer::default();
        while answer.end.is_none() {
            let event = self.next();
            answer.take(id, event);
        }
        answer
    }

    pub fn ask(&mut self, request: GenerateRequest) -> Answer {
        let id = request.id.0;
        self.send(&Command::Generate(request));
        self.collect(id)
    }

    /// Collects the events of several requests at once, up to the last of each.
    pub fn collect_all(&mut self, ids: &[u64]) -> Vec<Answer> {
        let mut answers: Vec<Answer> = ids.iter().map(|_| Answer::default()).collect();
        while answers.iter().any(|answer| answer.end.is_none()) {
            let event = self.next();
            let id = request_of(&event).expect("an event of a request");
            let at = ids.iter().position(|n| *n == id.0);
            answers[at.expect("a request that was asked for")].take(id.0, event);
        }
        answers
    }

    /// Reads until an event satisfies `wanted`.
    pub fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.next();
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Closes the daemon's end of the socket.
    pub fn hang_up(&self) {
        self.socket.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Waits for the process to end; a hang is an error.
    pub fn wait(&mut self, at_most: Duration) -> ExitStatus {
        wait(&mut self.child, at_most).expect("the engine did not end")
    }

    /// Seconds of processor time so far, all threads.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        // USER_HZ is 100 on every Linux of the last decades.
        ticks / 100.0
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Answer {
    fn take(&mut self, wanted: u64, event: Event) {
        let check = |id: RequestId| assert_eq!(id.0, wanted, "an event of another request");
        match event {
            Event::Started {
                id,
                prompt_tokens,
                cached_tokens,
                ..
            } => {
                check(id);
                self.prompt_tokens = prompt_tokens;
                self.cached_tokens = cached_tokens;
            }
            Event::Prefill { id, done, .. } => {
                check(id);
                self.prefills.push(done);
            }
            Event::Token {
                id,
                parts,
                generated,
                ..
            } => {
                check(id);
                assert!(generated >= self.tokens);
                self.tokens = generated;
                for part in parts {
                    match &part {
                        AnswerPart::Content(text) => self.text.push_str(text),
                        AnswerPart::Reasoning(text) => self.reasoning.push_str(text),
                        AnswerPart::ToolCall(call) => self.calls.push(call.clone()),
                    }
                    self.parts.push(part);
                }
            }
            Event::Finished {
                id, reason, usage, ..
            } => {
                check(id);
                self.end = Some(Ok((reason, usage)));
            }
            Event::Failed { id, failure } => {
                check(id);
                self.end = Some(Err(failure));
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// The text of parts of an answer.
pub fn text_of(parts: &[AnswerPart]) -> String {
    parts.iter().filter_map(AnswerPart::content).collect()
}

/// Waits for a child; `None` when it takes too long.
pub fn wait(child: &mut Child, at_most: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + at_most;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

pub fn load(path: &Path) -> LoadRequest {
    LoadRequest {
        path: path.to_owned(),
        projector: None,
        draft: None,
        context_size: 2048,
        kept_tokens: 0,
        kv_type: KvType::F16,
        threads_max: 2,
        slots: 1,
        lookup_tokens: 0,
        memory_max: None,
        cache: None,
        adapters: Vec::new(),
        limits: Limits::default(),
        sampling: Sampling::default(),
    }
}

pub fn chat(id: u64, text: &str) -> GenerateRequest {
    let messages = vec![Message::user(text)];
    request(
        id,
        Prompt::Chat {
            messages,
            tools: vec![],
        },
    )
}

pub fn request(id: u64, prompt: Prompt) -> GenerateRequest {
    GenerateRequest {
        id: RequestId(id),
        prompt,
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        ..GenerateRequest::default()
    }
}

/// A model of random weights, made once per shape and test process.
pub fn random_model(name: &str, shape: &str, element: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}-{}.gguf", std::process::id()));
    let status = Process::new(ENGINE)
        .args(["make-model", "--shape", shape, "--type", element, "--out"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    path
}

/// A tiny model of another architecture.
pub fn family_model(family: &str) -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{family}-{count}-{}.gguf", std::process::id()));
    let status = Process::new(ENGINE)
        .args(["make-model", "--family", family, "--out"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    path
}

/// The small model that most tests use.
pub fn tiny_model() -> &'static Path {
    static PATH: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PATH.get_or_init(|| random_model("tiny", "2,128,256,4,2,600", "f16"))
}

fn request_of(event: &Event) -> Option<RequestId> {
    match event {
        Event::Started { id, .. }
        | Event::Prefill { id, .. }
        | Event::Token { id, .. }
        | Event::Finished { id, .. }
        | Event::Failed { id, .. } => Some(*id),
        _ => None,
    }
}
