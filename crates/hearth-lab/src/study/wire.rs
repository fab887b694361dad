//! The streams of both APIs: server-sent events (OpenAI's) and lines of JSON (Ollama's).

use serde::Serialize;
use serde_json::{Value, json};

use super::settings::Question;

/// A longer line is not an answer of a language model.
const LINE_MAX: usize = 4 << 20;

/// The API of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `/v1/chat/completions`.
    OpenAi,
    /// `/api/chat`.
    Ollama,
}

/// What a line of a stream contains.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// More of the answer, or of the reasoning before it.
    Text(String),
    /// Token counts; `None` for those that are not reported.
    Usage(Usage),
    /// The answer is complete.
    End,
}

/// Tokens, as the server counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, including the chat template.
    pub prompt: Option<u64>,
    /// How many of these were found in a prompt cache.
    pub cached: Option<u64>,
    /// Of the answer.
    pub answer: Option<u64>,
}

impl Usage {
    /// Replaces the counts that `later` reports.
    pub fn update(&mut self, later: Self) {
        self.prompt = later.prompt.or(self.prompt);
        self.cached = later.cached.or(self.cached);
        self.answer = later.answer.or(self.answer);
    }
}

impl Api {
    /// Path of the chat endpoint.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1/chat/completions",
            Self::Ollama => "/api/chat",
        }
    }

    /// A greedy, streamed chat request.
    pub(super) fn request(self, model: &str, question: &Question) -> Value {
        let mut messages = vec![json!({"role": "user", "content": question.text})];
        if let Some(opening) = &question.opening {
            messages.insert(0, json!({"role": "system", "content": opening}));
        }
        let fixed = question.fixed_length;
        match self {
            Self::OpenAi => {
                let mut body = json!({
                    "model": model, "messages": messages, "stream": true,
                    "stream_options": {"include_usage": true},
                    "temperature": 0, "seed": 1, "max_tokens": question.tokens,
                });
                if fixed {
                    // An extension of llama.cpp's servers and Hearthd.
                    body["ignore_eos"] = true.into();
                }
                body
            }
            Self::Ollama => {
                let mut options =
                    json!({"temperature": 0, "seed": 1, "num_predict": question.tokens});
                if fixed {
                    // An extension of Hearthd; Ollama ignores it.
                    options["ignore_eos"] = true.into();
                }
                json!({"model": model, "messages": messages, "stream": true, "options": options})
            }
        }
    }

    /// Parses a line of the answer's stream.
    ///
    /// # Errors
    /// The error that the server reports, or what is unexpected about the line.
    pub(super) fn read(self, line: &str) -> Result<Vec<Piece>, String> {
        let line = line.trim();
        let data = match self {
            Self::Ollama => line,
            Self::OpenAi => match line.strip_prefix("data:") {
                Some(data) => data.trim(),
                None if line.starts_with('{') => line,
                // Comments and fields without meaning here (HTML standard, 9.2.6).
                None => "",
            },
        };
        match (self, data) {
            (_, "") => return Ok(Vec::new()),
            (Self::OpenAi, "[DONE]") => return Ok(vec![Piece::End]),
            _ => {}
        }
        let event: Value = serde_json::from_str(data)
            .map_err(|e| format!("a line of the stream is no JSON ({e}): {}", short(data)))?;
        if let Some(error) = error(&event) {
            return Err(error);
        }
        if self == Self::OpenAi && !line.starts_with("data:") {
            return Err(
                "the response is no stream of events: the server may not support streaming"
                    .to_owned(),
            );
        }
        Ok(match self {
            Self::OpenAi => openai(&event),
            Self::Ollama => ollama(&event),
        })
    }
}

/// The message of an error, in either API's form.
pub fn error(event: &Value) -> Option<String> {
    let error = event.get("error").filter(|error| !error.is_null())?;
    let text = error.get("message").unwrap_or(error);
    Some(
        text.as_str()
            .map_or_else(|| text.to_string(), str::to_owned),
    )
}

/// Truncates a text for use in a message.
pub fn short(text: &str) -> String {
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn openai(event: &Value) -> Vec<Piece> {
    let delta = &event["choices"][0]["delta"];
    let mut pieces = texts(delta, &["content", "reasoning_content", "reasoning"]);
    let usage = &event["usage"];
    let count = |value: &Value| value.as_u64();
    if usage.is_object() {
        pieces.push(Piece::Usage(Usage {
            prompt: count(&usage["prompt_tokens"]),
            cached: count(&usage["prompt_tokens_details"]["cached_tokens"]),
            answer: count(&usage["completion_tokens"]),
        }));
    }
    // llama-server's own figures include the tokens from its cache.
    if let Some(cached) = count(&event["timings"]["cache_n"]) {
        pieces.push(Piece::Usage(Usage {
            cached: Some(cached),
            ..Usage::default()
        }));
    }
    pieces
}

fn ollama(event: &Value) -> Vec<Piece> {
    let mut pieces = texts(&event["message"], &["content", "thinking"]);
    if event["done"] == true {
        pieces.push(Piece::Usage(Usage {
            prompt: event["prompt_eval_count"].as_u64(),
            cached: None,
            answer: event["eval_count"].as_u64(),
        }));
        pieces.push(Piece::End);
    }
    pieces
}

fn texts(from: &Value, names: &[&str]) -> Vec<Piece> {
    let texts = names.iter().filter_map(|name| from[*name].as_str());
    let texts = texts.filter(|text| !text.is_empty());
    texts.map(|text| Piece::Text(text.to_owned())).collect()
}

/// Splits received bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    open: Vec<u8>,
}

impl Lines {
    /// Returns the lines that these bytes complete.
    ///
    /// # Errors
    /// If a line is too long.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(part);
            if part.ends_with(b"\n") {
                lines.push(self.rest());
            } else if self.open.len() > LINE_MAX {
                return Err("a line of the stream does not end".to_owned());
            }
        }
        Ok(lines)
    }

    /// The bytes after the last line end.
    pub fn rest(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.open).trim_end().to_owned();
        self.open.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_any_pieces() {
        let mut lines = Lines::default();
        assert!(lines.push(b"data: {\"a\"").unwrap().is_empty());
        assert_eq!(
            lines.push(": 1}\r\n\r\ndata: é".as_bytes()).unwrap(),
            ["data: {\"a\": 1}", ""]
        );
        assert!(lines.push(b"\xff").unwrap().is_empty());
        assert_eq!(lines.rest(), "data: é\u{fffd}");
        let endless = vec![b'x'; LINE_MAX + 1];
        assert!(lines.push(&endless).unwrap_err().contains("does not end"));
    }

    #[test]
    fn events_of_openai() {
        let read = |line| Api::OpenAi.read(line).unwrap();
        for nothing in ["", ": working", "event: message", "id: 7", "retry: 1"] {
            assert!(read(nothing).is_empty(), "{nothing}");
        }
        assert!(
            read(r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}"#).is_empty()
        );
        assert_eq!(
            read(r#"data:{"choices":[{"delta":{"content":"Ro","reasoning_content":null}}]}"#),
            [Piece::Text("Ro".into())]
        );
        assert_eq!(
            read(r#"data: {"choices":[{"delta":{"reasoning_content":"Hm"}}],"usage":null}"#),
            [Piece::Text("Hm".into())]
        );
        let counts = r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":3}},"timings":{"cache_n":4}}"#;
        let mut usage = Usage::default();
        for piece in read(counts) {
            let Piece::Usage(more) = piece else {
                panic!("{piece:?}")
            };
            usage.update(more);
        }
        let (prompt, cached, answer) = (Some(9), Some(4), Some(7));
        assert_eq!(
            usage,
            Usage {
                prompt,
                cached,
                answer
            }
        );
        assert_eq!(read("data: [DONE]"), [Piece::End]);
    }

    #[test]
    fn lines_of_ollama() {
        let read = |line| Api::Ollama.read(line).unwrap();
        assert_eq!(
            read(r#"{"message":{"role":"assistant","content":"Ro"},"done":false}"#),
            [Piece::Text("Ro".into())]
        );
        assert_eq!(
            read(r#"{"message":{"content":"","thinking":"Hm"},"done":false}"#),
            [Piece::Text("Hm".into())]
        );
        let last = r#"{"message":{"content":""},"done":true,"prompt_eval_count":9,"eval_count":7}"#;
        let usage = Usage {
            prompt: Some(9),
            cached: None,
            answer: Some(7),
        };
        assert_eq!(read(last), [Piece::Usage(usage), Piece::End]);
    }

    #[test]
    fn errors_are_reported() {
        for (api, line, words) in [
            (
                Api::OpenAi,
                r#"data: {"error":{"message":"too hot"}}"#,
                "too hot",
            ),
            (Api::OpenAi, r#"{"error":"busy"}"#, "busy"),
            (Api::OpenAi, r#"data: {"choi"#, "no JSON"),
            (
                Api::OpenAi,
                r#"{"choices":[{"message":{"content":"x"}}]}"#,
                "no stream",
            ),
            (
                Api::Ollama,
                r#"{"error":"model not found"}"#,
                "model not found",
            ),
            (Api::Ollama, "<html>", "no JSON"),
            (Api::Ollama, r#"{"error":{"code":7}}"#, "7"),
        ] {
            let error = api.read(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        assert_eq!(short(&"é".repeat(200)).chars().count(), 121);
    }

    #[test]
    fn requests_say_how_long_the_answer_is() {
        let mut question = Question {
            opening: Some("7 is the number.".into()),
            text: "Why?".into(),
            tokens: 64,
            fixed_length: true,
        };
        let chat = Api::OpenAi.request("m", &question);
        assert_eq!(
            (&chat["max_tokens"], &chat["ignore_eos"]),
            (&json!(64), &json!(true))
        );
        assert_eq!(chat["messages"][0]["role"], "system");
        let chat = Api::Ollama.request("m", &question);
        assert_eq!(chat["options"]["num_predict"], 64);
        question.fixed_length = false;
        question.opening = None;
        let chat = Api::OpenAi.request("m", &question);
        assert!(chat["ignore_eos"].is_null());
        assert_eq!(chat["messages"][0]["content"], "Why?");
    }
}
