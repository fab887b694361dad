//! Small HTTP servers with the faults that a test requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The target in the request line: a path, or a whole URL for a proxy.
    pub target: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The start of the requested range.
    pub fn range(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// A fault after some bytes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The connection is closed.
    Cut(usize),
    /// Nothing more is sent, until the client closes the connection.
    Stall(usize),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub fault: Fault,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            fault: Fault::None,
        }
    }

    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::status(200)
        }
    }

    pub fn redirect(to: &str) -> Self {
        Self::status(302).with("Location", to)
    }

    /// A file as a correct server sends it, or the requested rest of it.
    pub fn file(request: &Request, bytes: &[u8], tag: &str) -> Self {
        let same = request.header("if-range").is_none_or(|t| t == tag);
        let answer = match request.range() {
            Some(from) if same && from < bytes.len() => Self {
                status: 206,
                ..Self::body(&bytes[from..])
            }
            .with(
                "Content-Range",
                &format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
            ),
            Some(_) if same => Self::status(416),
            _ => Self::body(bytes),
        };
        answer.with("ETag", tag).with("Accept-Ranges", "bytes")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn but(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }
}

/// A server on the loopback interface; it runs as long as the test process.
pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers with `handler`, which also gets the number of earlier requests.
    pub fn start(handler: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_on(Some, handler)
    }

    /// The same over another protocol, e.g. TLS; `wrap` returns `None` if that fails.
    pub fn start_on<S: Read + Write>(
        wrap: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
        handler: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let log = Arc::clone(&seen);
        let shared = Arc::new((wrap, handler));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, shared) = (Arc::clone(&log), Arc::clone(&shared));
                thread::spawn(move || {
                    let raw = stream.try_clone().unwrap();
                    let Some(stream) = shared.0(stream) else {
                        return;
                    };
                    serve(stream, &raw, &log, &shared.1);
                });
            }
        });
        Self { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve<S: Read + Write>(
    stream: S,
    raw: &TcpStream,
    log: &Mutex<Vec<Request>>,
    handler: &impl Fn(&Request, usize) -> Answer,
) {
    let mut stream = BufReader::new(stream);
    let Some(request) = read(&mut stream) else {
        return;
    };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(request.clone());
        log.len() - 1
    };
    let answer = handler(&request, before);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    let sized = answer
        .headers
        .iter()
        .any(|(name, _)| name == "Content-Length");
    if !sized {
        _ = write!(head, "Content-Length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        _ = write!(head, "{name}: {value}\r\n");
    }
    let (end, stalls) = match answer.fault {
        Fault::None => (answer.body.len(), false),
        Fault::Cut(n) => (n.min(answer.body.len()), false),
        Fault::Stall(n) => (n.min(answer.body.len()), true),
    };
    let stream = stream.get_mut();
    // A client that has closed the connection is not an error of the server.
    _ = stream.write_all(format!("{head}\r\n").as_bytes());
    _ = stream.write_all(&answer.body[..end]);
    _ = stream.flush();
    if stalls {
        _ = raw.set_read_timeout(Some(Duration::from_mins(1)));
        _ = stream.read(&mut [0]);
    }
    _ = raw.shutdown(Shutdown::Write);
}

fn read(stream: &mut impl std::io::BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let target = lines.first()?.split(' ').nth(1)?.to_owned();
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Some(Request {
        target,
        headers: lines.iter().skip(1).filter_map(header).collect(),
    })
}
