//! The address of a server, and a connection to it: plain HTTP over TCP or a Unix socket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use super::wire::{error, short};

/// Time limit for connecting.
const CONNECTING: Duration = Duration::from_secs(10);

/// Maximum bytes read of an error's body.
const BODY_MAX: usize = 1 << 20;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port, and the prefix of each path (`/proxy`, or nothing).
    Tcp {
        /// `HOST:PORT`, to connect to.
        authority: String,
        /// The port alone.
        port: u16,
        /// Path prefix, without a trailing slash.
        base: String,
    },
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("the path of a socket must follow unix:".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let uri: Uri = text.parse().map_err(|e| format!("{e}: {text}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "only plain http: the servers run on this computer, and the time of \
                     encryption would be measured as theirs"
                        .to_owned(),
                );
            }
            _ => {
                return Err(
                    "an address looks like http://localhost:11434 or unix:/run/x.sock".to_owned(),
                );
            }
        }
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(80);
        Ok(Self::Tcp {
            authority: format!("{host}:{port}"),
            port,
            // OpenAI's clients take base URLs that end in `/v1`.
            base: uri
                .path()
                .trim_end_matches('/')
                .trim_end_matches("/v1")
                .to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp {
                authority, base, ..
            } => write!(f, "http://{authority}{base}"),
        }
    }
}

/// One connection, for one request.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Prefix of each path, and the name of the host.
    base: String,
    host: String,
    /// Process ID of the listener, if the socket reports it.
    pub peer: Option<u32>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Why the connection failed.
    pub async fn open(to: &Address) -> Result<Self, String> {
        let failed = |e: &dyn fmt::Display| format!("no connection to {to}: {e}");
        let connect = async {
            let connected: Result<_, String> = match to {
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(|e| failed(&e))?;
                    let peer = stream.peer_cred().ok().and_then(|cred| cred.pid());
                    let peer = peer.and_then(|pid| u32::try_from(pid).ok());
                    Ok((handshake(TokioIo::new(stream)).await?, peer))
                }
                Address::Tcp { authority, .. } => {
                    let stream = TcpStream::connect(authority)
                        .await
                        .map_err(|e| failed(&e))?;
                    // Disables Nagle's algorithm: a small request is sent at once.
                    _ = stream.set_nodelay(true);
                    Ok((handshake(TokioIo::new(stream)).await?, None))
                }
            };
            connected
        };
        let (sender, peer) = tokio::time::timeout(CONNECTING, connect)
            .await
            .map_err(|_| failed(&"timed out"))??;
        let (base, host) = match to {
            Address::Unix(_) => (String::new(), "localhost".to_owned()),
            Address::Tcp {
                authority, base, ..
            } => (base.clone(), authority.clone()),
        };
        Ok(Self {
            sender,
            base,
            host,
            peer,
        })
    }

    /// Sends a request; with `body` as a POST. A response without a success status is an
    /// error with the message of the server.
    ///
    /// # Errors
    /// The server's, or the connection's.
    pub async fn send(
        &mut self,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, String> {
        let builder = Request::builder()
            .method(if body.is_some() { "POST" } else { "GET" })
            .uri(format!("{}{path}", self.base))
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json");
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = builder.body(Full::new(body)).map_err(|e| e.to_string())?;
        let response = self.sender.send_request(request).await;
        let response = response.map_err(|e| format!("no answer to {path}: {e}"))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = text(response).await.unwrap_or_default();
        let said = serde_json::from_str(&text)
            .ok()
            .and_then(|body| error(&body));
        Err(format!(
            "{path} returned {status}: {}",
            short(&said.unwrap_or(text))
        ))
    }
}

/// Requests a JSON document.
///
/// # Errors
/// The connection's, the server's, or that the response is not JSON.
pub async fn ask(to: &Address, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let response = Connection::open(to).await?.send(path, body).await?;
    let text = text(response).await?;
    serde_json::from_str(&text)
        .map_err(|e| format!("the response to {path} is no JSON ({e}): {}", short(&text)))
}

async fn handshake<I>(stream: TokioIo<I>) -> Result<SendRequest<Full<Bytes>>, String>
where
    TokioIo<I>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(stream).await.map_err(|e| e.to_string())?;
    // The task ends with its sender and the response body, which report its errors.
    tokio::spawn(connection);
    Ok(sender)
}

async fn text(response: Response<Incoming>) -> Result<String, String> {
    let body = http_body_util::Limited::new(response.into_body(), BODY_MAX);
    let bytes = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("http://localhost:11434", "http://localhost:11434"),
            ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080"),
            ("http://[::1]:80/a/b", "http://[::1]:80/a/b"),
            ("http://board", "http://board:80"),
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for (text, words) in [
            ("https://localhost", "plain http"),
            ("localhost:8080", "looks like"),
            ("/run/x.sock", "looks like"),
            ("unix:", "path"),
            ("http://a b", "invalid"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
