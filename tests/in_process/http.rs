//! An HTTP client of the daemon's socket.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::harness::World;

/// The path of OpenAI's chats.
pub const CHAT: &str = "/v1/chat/completions";

/// A complete response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    /// Its JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The code of its error, in OpenAI's form.
    pub fn code(&self) -> String {
        let code = &self.json()["error"]["code"];
        code.as_str().unwrap_or_else(|| panic!("{self:?}")).into()
    }

    /// A header, empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default()
    }

    /// Its lines of JSON.
    pub fn lines(&self) -> Vec<Value> {
        // A stream has no blank line, which would break clients.
        let lines = self.body.strip_suffix('\n').unwrap_or(&self.body);
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        lines.split('\n').map(parse).collect()
    }

    /// The data of its server-sent events, without the end marker.
    pub fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|l| l.strip_prefix("data: "));
        let events = data.filter(|data| *data != "[DONE]");
        events.map(|e| serde_json::from_str(e).unwrap()).collect()
    }
}

/// A body with one message.
pub fn body(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

/// The text of a complete chat.
pub fn content(answer: &Value) -> &str {
    let text = answer["choices"][0]["message"]["content"].as_str();
    text.unwrap_or_else(|| panic!("{answer}"))
}

impl World {
    /// A GET request.
    pub async fn get(&self, path: &str) -> Reply {
        self.http(Method::GET, path, &[], String::new()).await
    }

    /// A POST request with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.http(Method::POST, path, &[], body.to_string()).await
    }

    /// A chat in OpenAI's form; its JSON.
    pub async fn chat(&self, body: &Value) -> Value {
        self.post(CHAT, body).await.json()
    }

    /// What `/health` reports of the service.
    pub async fn health(&self) -> Value {
        self.get("/health").await.json()["service"].take()
    }

    /// Any request with these headers.
    pub async fn http(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let (_connection, response) = self.request(method, path, headers, body).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Reply {
            status,
            headers,
            body: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Sends a POST request and returns when its response has begun.
    pub async fn open(&self, path: &str, body: &Value) -> Streamed {
        let text = body.to_string();
        let (connection, response) = self.request(Method::POST, path, &[], text).await;
        Streamed {
            response,
            _connection: connection,
            text: String::new(),
        }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> (SendRequest<Full<Bytes>>, Response<Incoming>) {
        let socket = UnixStream::connect(self.folder.socket()).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(socket)).await.unwrap();
        // It ends when the response was read or dropped.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("Host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = sender.send_request(request).await.unwrap();
        (sender, response)
    }
}

/// A response that is being read. Dropping it closes the connection.
pub struct Streamed {
    pub response: Response<Incoming>,
    _connection: SendRequest<Full<Bytes>>,
    /// The text received so far.
    pub text: String,
}

impl Streamed {
    /// Reads until the text received so far contains `part`.
    pub async fn until(&mut self, part: &str) {
        while !self.text.contains(part) {
            assert!(self.more().await, "no {part:?} in {:?}", self.text);
        }
    }

    /// Reads to the end and returns the whole text.
    pub async fn end(mut self) -> String {
        while self.more().await {}
        self.text
    }

    /// Reads more; `false` at the end.
    async fn more(&mut self) -> bool {
        let Some(frame) = self.response.frame().await else {
            return false;
        };
        if let Ok(data) = frame.unwrap().into_data() {
            self.text += std::str::from_utf8(&data).unwrap();
        }
        true
    }
}
