//! One server of the study: which model, which process, and one request.

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::address::{Address, Connection, ask};
use super::proc::{Listening, Proc};
use super::settings::Question;
use super::wire::{Api, Lines, Piece, Usage};

/// Time limit for unloading the model.
const UNLOADING: Duration = Duration::from_secs(30);
/// How often to check that it is unloaded.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A server to measure.
#[derive(Clone, Debug)]
pub struct Server {
    /// Label in tables and plots.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    pub api: Api,
    /// The model to request; the only one if `None`.
    pub model: Option<String>,
    /// Its process; searched for if `None`.
    pub pid: Option<u32>,
}

impl Server {
    /// A server whose model and process are to be found out.
    pub fn new(name: impl Into<String>, address: Address, api: Api) -> Self {
        Self {
            name: name.into(),
            address,
            api,
            model: None,
            pid: None,
        }
    }
}

/// One answer, with times measured by this client.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// From before connecting to the end of the answer.
    pub response: Duration,
    /// Time to the first text.
    pub first: Option<Duration>,
    /// From the first text to the last.
    pub writing: Duration,
    /// Chunks of text.
    pub pieces: u64,
    /// Token counts of the server.
    pub usage: Usage,
    /// The text.
    pub text: String,
}

impl Server {
    /// The name of the model to request.
    ///
    /// # Errors
    /// If there is none, or more than one to choose from.
    pub(super) async fn find_model(&self) -> Result<String, String> {
        if let Some(model) = &self.model {
            return Ok(model.clone());
        }
        let names = match self.api {
            Api::OpenAi => names(&ask(&self.address, "/v1/models", None).await?["data"], "id"),
            Api::Ollama => self.list("/api/tags").await?,
        };
        match names.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err("the server has no model".to_owned()),
            _ => self.find_among(&names).await.ok_or_else(|| {
                format!(
                    "the server has several models, give one: {}",
                    names.join(", ")
                )
            }),
        }
    }

    /// Of several models the one in memory, if the server lists it; otherwise the one
    /// that it reports as its default (`/props` of llama.cpp's server and of Hearthd).
    async fn find_among(&self, names: &[String]) -> Option<String> {
        if let [one] = self.list("/api/ps").await.unwrap_or_default().as_slice() {
            return Some(one.clone());
        }
        let props = ask(&self.address, "/props", None).await.ok()?;
        let alias = props["model_alias"].as_str()?;
        let is_it = |name: &&String| name.strip_suffix(":latest").unwrap_or(name) == alias;
        names.iter().find(is_it).cloned()
    }

    /// The root of its process tree.
    ///
    /// # Errors
    /// Why it cannot be determined.
    pub(super) async fn find_process(&self, proc: &Proc) -> Result<u32, String> {
        if let Some(pid) = self.pid {
            let missing = || format!("there is no process {pid}");
            return proc.exists(pid).then_some(pid).ok_or_else(missing);
        }
        match &self.address {
            Address::Tcp { port, .. } => proc.listener(Listening::Port(*port)),
            Address::Unix(path) => {
                let peer = Connection::open(&self.address).await?.peer;
                // systemd's process if it created the socket.
                if let Some(peer) = peer.filter(|pid| *pid != 1) {
                    return Ok(peer);
                }
                let found = proc.listener(Listening::Socket(path));
                match found {
                    Ok(pid) => Ok(pid),
                    // Hearthd reports the process of its engine.
                    Err(why) => {
                        let health = ask(&self.address, "/health", None)
                            .await
                            .unwrap_or_default();
                        let engine = health["service"]["engine_pid"].as_u64();
                        let engine = engine.and_then(|pid| u32::try_from(pid).ok());
                        engine.and_then(|pid| proc.parent(pid)).ok_or(why)
                    }
                }
            }
        }
    }

    /// Unloads the model and waits until it is gone.
    ///
    /// # Errors
    /// If the server does not support the request, or keeps the model.
    pub(super) async fn unload(&self, model: &str) -> Result<(), String> {
        let body = json!({"model": model, "keep_alive": 0});
        ask(&self.address, "/api/generate", Some(&body))
            .await
            .map_err(|e| {
                format!("it does not unload on Ollama's `keep_alive`: {e}; try --reset prompt")
            })?;
        let gone = async {
            while !self.list("/api/ps").await?.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        let still_loaded =
            |_| "the model stays loaded; another client may use it. Try --reset prompt".to_owned();
        tokio::time::timeout(UNLOADING, gone)
            .await
            .map_err(still_loaded)?
    }

    /// Sends a question and reads the answer to its end.
    ///
    /// # Errors
    /// The cause, from the connection to the last line.
    pub(super) async fn answer(&self, model: &str, question: &Question) -> Result<Answer, String> {
        let body = self.api.request(model, question);
        let began = now();
        let mut answer = Answer::default();
        let mut connection = Connection::open(&self.address).await?;
        let response = connection.send(self.api.path(), Some(&body)).await?;
        let mut stream = response.into_body();
        let mut lines = Lines::default();
        while let Some(frame) = stream.frame().await {
            let frame = frame.map_err(|e| format!("the answer breaks off: {e}"))?;
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            let at = now() - began;
            for line in lines.push(&bytes)? {
                if answer.read_line(self.api, &line, at)? {
                    return Ok(answer);
                }
            }
        }
        // The last line may lack a line end.
        if answer.read_line(self.api, &lines.rest(), now() - began)? {
            return Ok(answer);
        }
        Err(format!(
            "the answer breaks off after {} chunks: the stream ended without an end marker",
            answer.pieces
        ))
    }

    async fn list(&self, path: &str) -> Result<Vec<String>, String> {
        Ok(names(
            &ask(&self.address, path, None).await?["models"],
            "name",
        ))
    }
}

impl Answer {
    /// As counted by the server; otherwise the number of text chunks.
    pub fn tokens(&self) -> u64 {
        self.usage.answer.unwrap_or(self.pieces)
    }

    /// Processes a line received at this time; returns whether it was the last.
    fn read_line(&mut self, api: Api, line: &str, at: Duration) -> Result<bool, String> {
        for piece in api.read(line)? {
            match piece {
                Piece::Text(text) => {
                    let first = *self.first.get_or_insert(at);
                    self.writing = at.saturating_sub(first);
                    self.pieces += 1;
                    self.text.push_str(&text);
                }
                Piece::Usage(usage) => self.usage.update(usage),
                Piece::End => {
                    self.response = at;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn names(list: &Value, key: &str) -> Vec<String> {
    let entries = list.as_array().into_iter().flatten();
    entries
        .filter_map(|entry| entry[key].as_str().map(str::to_owned))
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "what a client waits for is measured here"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_an_answer() {
        let mut answer = Answer::default();
        let ms = Duration::from_millis;
        let chunk =
            |text: &str| format!(r#"data: {{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#);
        for (line, at) in [
            (": working".into(), 5),
            (chunk(""), 10),
            (chunk("Ro"), 20),
            (chunk("me"), 50),
        ] {
            assert_eq!(answer.read_line(Api::OpenAi, &line, ms(at)), Ok(false));
        }
        assert_eq!(
            answer.read_line(Api::OpenAi, "data: [DONE]", ms(70)),
            Ok(true)
        );
        assert_eq!((answer.text.as_str(), answer.pieces), ("Rome", 2));
        assert_eq!(
            (answer.first, answer.writing, answer.response),
            (Some(ms(20)), ms(30), ms(70))
        );
    }
}
