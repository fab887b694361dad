//! A deterministic backend for tests of the loop and of the daemon's fault
//! handling: bytes are tokens, the answer repeats the prompt's last line, and a
//! script in the prompt causes faults.

use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, DecodeError, Loader, Progress, Token};
use crate::protocol::{Failure, LoadRequest, ModelInfo, Sampling};

/// Ends an answer.
const END: Token = 256;

/// Loads nothing.
#[derive(Clone, Copy, Debug)]
pub struct FakeLoader;

/// Answers with what it was asked. Words in the prompt cause faults when they are
/// reached in the answer: `!abort` aborts the process, `!hang` hangs,
/// `!slow` takes 20 ms a token from then on.
#[derive(Debug)]
pub struct FakeBackend {
    info: ModelInfo,
    seen: Vec<Token>,
    answer: Vec<Token>,
    slow: bool,
    progress: Arc<Progress>,
}

impl Loader for FakeLoader {
    type Backend = FakeBackend;

    fn load(
        &self,
        request: &LoadRequest,
        progress: &Arc<Progress>,
        report: Box<dyn Fn(f32)>,
    ) -> Result<FakeBackend, Failure> {
        report(1.0);
        Ok(FakeBackend {
            info: ModelInfo {
                description: "fake".into(),
                parameters: 1,
                size_bytes: 1,
                context_size: if request.context_size == 0 { 4096 } else { request.context_size },
                context_train: 4096,
                vocab_size: 257,
                cpu: "fake".into(),
                has_chat_template: false,
                load_ms: 0,
            },
            seen: Vec::new(),
            answer: Vec::new(),
            slow: false,
            progress: Arc::clone(progress),
        })
    }
}

impl Backend for FakeBackend {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn template(&self) -> (Option<String>, String, String) {
        let source = "{{ messages[-1].content }}";
        (Some(source.into()), String::new(), String::new())
    }

    fn tokenize(&self, text: &str, _special: bool) -> Vec<Token> {
        text.bytes().map(Token::from).collect()
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        u8::try_from(token).into_iter().collect()
    }

    fn is_end(&self, token: Token) -> bool {
        token == END
    }

    fn clear(&mut self) {
        self.seen.clear();
        self.answer.clear();
        self.slow = false;
    }

    fn decode(&mut self, tokens: &[Token], _position: u32) -> Result<(), DecodeError> {
        self.progress.tick();
        if self.progress.is_abort() {
            return Err(DecodeError::Aborted);
        }
        if self.slow {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.seen.extend(tokens);
        Ok(())
    }

    fn begin_sampling(&mut self, _: &Sampling, _: &[Token]) -> Result<(), Failure> {
        Ok(())
    }

    fn sample(&mut self) -> Token {
        if self.answer.is_empty() {
            self.answer = self.seen.clone();
            self.answer.push(END);
            self.answer.reverse();
        }
        let rest: Vec<u8> = self.answer.iter().rev().flat_map(|t| self.piece(*t)).collect();
        if rest.starts_with(b"!abort") {
            std::process::abort();
        }
        if rest.starts_with(b"!hang") {
            loop {
                std::thread::park();
            }
        }
        self.slow |= rest.starts_with(b"!slow");
        self.answer.pop().unwrap_or(END)
    }

    fn set_threads(&mut self, _: u32) {}
}
