//! Clients inside the test: many at once, which may disconnect at any moment.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd as StdFd;
use std::os::unix::net::UnixStream;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::runtime::Runtime;
use zbus::message::Message;
use zbus::{Connection, MatchRule, MessageStream, OwnedFd, OwnedObjectPath, Variant, connection};

use crate::harness::{BUS_NAME, Daemon, PATIENCE, text};

const PATH: &str = "/org/hearthd/Inference1";
const JOB: &str = "org.hearthd.Inference1.Job";
pub const SESSION: &str = "org.hearthd.Inference1.Session";

/// A request with one message.
pub fn chat(content: &str) -> Value {
    serde_json::json!({"messages": [{"role": "user", "content": content}]})
}

/// This many different words, so that missing or repeated ones are noticed.
pub fn counted(words: u32) -> String {
    let words: Vec<String> = (0..words).map(|n| format!("word {n}")).collect();
    words.join(" ")
}

/// A connection to the Unix socket.
pub fn connect(daemon: &Daemon) -> UnixStream {
    let socket = UnixStream::connect(daemon.socket()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends raw bytes and reads until the daemon closes the connection.
pub fn raw(daemon: &Daemon, bytes: &[u8]) -> String {
    let mut socket = connect(daemon);
    // A request that is rejected early is not read to its end.
    _ = socket.write_all(bytes);
    rest(&mut socket)
}

/// Reads until the end of the stream.
pub fn rest(socket: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = socket.read_to_end(&mut bytes) {
        let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(reset, "{error}: {}", text(&bytes));
    }
    text(&bytes)
}

/// Sends a chat request without reading the answer.
pub fn post(daemon: &Daemon, body: &Value) -> UnixStream {
    send(daemon, &body.to_string())
}

/// As [`post`], with any text as the body.
pub fn send(daemon: &Daemon, body: &str) -> UnixStream {
    send_to(daemon, "/v1/chat/completions", body)
}

/// As [`send`], to another endpoint.
pub fn send_to(daemon: &Daemon, path: &str, body: &str) -> UnixStream {
    let mut socket = connect(daemon);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // A body that is too large is rejected before it was read to its end.
    _ = socket.write_all(&[head.as_bytes(), body.as_bytes()].concat());
    socket
}

/// A complete response: its head in lower case, and its JSON.
pub fn reply(mut socket: UnixStream) -> (String, Value) {
    let mut bytes = Vec::new();
    // Unread data of a rejected request resets the connection after the response.
    if let Err(error) = socket.read_to_end(&mut bytes) {
        assert!(!bytes.is_empty(), "{error}");
    }
    let all = text(&bytes);
    let (head, body) = all
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{all:?}"));
    let body = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {all}"));
    (head.to_lowercase(), body)
}

/// The text of a complete answer.
pub fn content(answer: &Value) -> &str {
    let text = answer["choices"][0]["message"]["content"].as_str();
    text.unwrap_or_else(|| panic!("{answer}"))
}

/// A streamed answer.
pub struct Streamed {
    lines: std::io::Lines<BufReader<UnixStream>>,
    /// The text received so far.
    pub text: String,
}

impl Streamed {
    /// Sends the request and returns when the first text has arrived.
    pub fn open(daemon: &Daemon, mut body: Value) -> Self {
        body["stream"] = true.into();
        let lines = BufReader::new(post(daemon, &body)).lines();
        let text = String::new();
        let mut streamed = Self { lines, text };
        while streamed.text.is_empty() {
            let event = streamed.next().expect("an answer begins");
            assert!(event["error"].is_null(), "{event}");
        }
        streamed
    }

    /// The next event; `None` after the end marker.
    fn next(&mut self) -> Option<Value> {
        let data = loop {
            let line = self.lines.next().expect("a stream says that it is over");
            if let Some(data) = line.unwrap().strip_prefix("data: ") {
                break data.to_owned();
            }
        };
        if data == "[DONE]" {
            return None;
        }
        let event: Value = serde_json::from_str(&data).unwrap();
        let part = &event["choices"][0]["delta"]["content"];
        self.text.push_str(part.as_str().unwrap_or_default());
        Some(event)
    }

    /// Reads to the end; returns the whole text, and the error that ended it.
    pub fn end(mut self) -> (String, Value) {
        let mut error = Value::Null;
        while let Some(mut event) = self.next() {
            if error.is_null() {
                error = event["error"].take();
            }
        }
        (self.text, error)
    }
}

/// A connection to the bus. Errors are `name: message`.
pub struct Bus {
    runtime: Runtime,
    connection: Connection,
}

pub type Options<'a> = HashMap<&'a str, Variant<'a>>;

impl Bus {
    pub fn connect(daemon: &Daemon) -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let address = daemon.bus_address();
        let connection = runtime.block_on(async move {
            let builder = connection::Builder::address(address.as_str());
            builder.build().await.unwrap()
        });
        Self {
            runtime,
            connection,
        }
    }

    /// Calls a method of an object.
    pub fn call<R>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        args: &(impl serde::Serialize + zbus::DynamicType),
    ) -> Result<R, String>
    where
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        let call = self
            .connection
            .call_method(Some(BUS_NAME), path, Some(interface), method, args);
        let message = self.runtime.block_on(call).map_err(|e| e.to_string())?;
        message.body().deserialize().map_err(|e| e.to_string())
    }

    pub fn generate(&self, prompt: &str) -> Result<String, String> {
        self.call(PATH, BUS_NAME, "Generate", &(prompt,))
    }

    pub fn generate_json(&self, prompt: &str, schema: &str) -> Result<String, String> {
        self.call(PATH, BUS_NAME, "GenerateJson", &(prompt, schema))
    }

    /// Returns the path of the job.
    pub fn submit(&self, request: &Value, options: &Options<'_>) -> Result<String, String> {
        let path: Result<OwnedObjectPath, _> =
            self.call(PATH, BUS_NAME, "Submit", &(request.to_string(), options));
        path.map(|path| path.as_str().to_owned())
    }

    /// Returns the pipe with the events of the job.
    pub fn open_stream(&self, request: &Value, options: &Options<'_>) -> Result<File, String> {
        let opened: Result<(OwnedObjectPath, OwnedFd), _> = self.call(
            PATH,
            BUS_NAME,
            "OpenStream",
            &(request.to_string(), options),
        );
        opened.map(|(_, events)| File::from(StdFd::from(events)))
    }

    pub fn cancel(&self, job: &str) -> Result<(), String> {
        self.call(job, JOB, "Cancel", &())
    }

    /// Waits for the answer of a job.
    pub fn result(&self, job: &str) -> Result<Value, String> {
        let result: String = self.call(job, JOB, "GetResult", &())?;
        serde_json::from_str(&result).map_err(|e| e.to_string())
    }

    /// A numeric property of a job.
    pub fn tokens_generated(&self, job: &str) -> u32 {
        self.number(job, JOB, "TokensGenerated")
    }

    /// A numeric property of an object.
    pub fn number(&self, path: &str, interface: &str, name: &str) -> u32 {
        let args = (interface, name);
        let value: Result<zbus::OwnedVariant, _> =
            self.call(path, "org.freedesktop.DBus.Properties", "Get", &args);
        value.unwrap().downcast_ref::<u32>().unwrap()
    }

    /// All properties of an object, as text.
    pub fn properties(&self, path: &str, interface: &str) -> String {
        let all: Result<HashMap<String, zbus::OwnedVariant>, _> = self.call(
            path,
            "org.freedesktop.DBus.Properties",
            "GetAll",
            &(interface,),
        );
        format!("{:?}", all.unwrap())
    }

    /// Subscribes to all signals of the service that reach this connection.
    pub fn listen(&self) -> Signals<'_> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .path_namespace(PATH)
            .build()
            .unwrap();
        let stream = MessageStream::for_match_rule(rule, &self.connection, None);
        Signals {
            runtime: &self.runtime,
            stream: self.runtime.block_on(stream).unwrap(),
        }
    }

    /// Returns the path of the session.
    pub fn open_session(&self, options: &Options<'_>) -> Result<String, String> {
        let path: Result<OwnedObjectPath, _> =
            self.call(PATH, BUS_NAME, "OpenSession", &(options,));
        path.map(|path| path.as_str().to_owned())
    }

    /// Returns the answer in a session.
    pub fn say(&self, session: &str, text: &str, options: &Options<'_>) -> Result<String, String> {
        self.call(session, SESSION, "Generate", &(text, options))
    }
}

/// Received signals.
pub struct Signals<'a> {
    runtime: &'a Runtime,
    stream: MessageStream,
}

impl Signals<'_> {
    /// All signals up to the first one of this name, inclusive.
    pub fn until(&mut self, member: &str) -> Vec<Message> {
        let mut seen = Vec::new();
        loop {
            let next = async { tokio::time::timeout(PATIENCE, self.stream.next()).await };
            let next = self.runtime.block_on(next);
            let next = next.unwrap_or_else(|_| panic!("no {member}: {seen:?}"));
            let message = next.unwrap().unwrap();
            let last = is(&message, member);
            seen.push(message);
            if last {
                return seen;
            }
        }
    }
}

/// Whether a signal has this name.
pub fn is(message: &Message, member: &str) -> bool {
    message
        .header()
        .member()
        .is_some_and(|m| m.as_str() == member)
}
