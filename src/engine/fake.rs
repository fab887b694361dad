//! A deterministic backend for tests of the loop and of the daemon's fault
//! handling: bytes are tokens, the answer repeats the prompt's last message, and a
//! script, or words in the prompt, cause faults.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, ChatFormat, DecodeError, Loader, Progress, Token};
use crate::protocol::{Failure, FailureKind, LoadRequest, ModelInfo, Sampling};

/// Ends an answer.
const END: Token = 256;
/// Context where the request names none.
const CONTEXT: u32 = 4096;

/// What goes wrong, and how slow things are. Written as `key=value`, separated by
/// commas: `load-ms=N`, `token-ms=N`, `prefill-us=N` (a prompt token), `load=KIND` with
/// `not-found`, `invalid`, `oom`, `abort` or `hang`, `fail-decode=N` (the N-th decode,
/// from 1, fails with code -3), `repeat=N` (the answer is said N times).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    load: Option<LoadFault>,
    load_time: Duration,
    token_time: Duration,
    prefill_time: Duration,
    fail_decode: Option<u64>,
    repeat: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoadFault {
    Fails(FailureKind),
    Aborts,
    Hangs,
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let unknown = || format!("{part:?} is no part of a fake script");
            let (key, value) = part.split_once('=').ok_or_else(unknown)?;
            let number = || value.parse::<u64>().map_err(|_| unknown());
            match key {
                "load-ms" => script.load_time = Duration::from_millis(number()?),
                "token-ms" => script.token_time = Duration::from_millis(number()?),
                "prefill-us" => script.prefill_time = Duration::from_micros(number()?),
                "fail-decode" => script.fail_decode = Some(number()?),
                "repeat" => script.repeat = usize::try_from(number()?).unwrap_or(1),
                "load" => {
                    script.load = Some(match value {
                        "not-found" => LoadFault::Fails(FailureKind::ModelNotFound),
                        "invalid" => LoadFault::Fails(FailureKind::ModelInvalid),
                        "oom" => LoadFault::Fails(FailureKind::OutOfMemory),
                        "abort" => LoadFault::Aborts,
                        "hang" => LoadFault::Hangs,
                        _ => return Err(unknown()),
                    });
                }
                _ => return Err(unknown()),
            }
        }
        Ok(script)
    }
}

/// Loads nothing.
#[derive(Clone, Debug, Default)]
pub struct FakeLoader {
    /// What goes wrong.
    pub script: Script,
}

/// Answers with what it was asked. Words in the prompt cause faults when they are
/// reached in the answer: `!abort` aborts the process, `!hang` hangs, `!slow` takes
/// 20 ms a token from then on, `!fail` fails the decode.
#[derive(Debug)]
pub struct FakeBackend {
    script: Script,
    info: ModelInfo,
    seen: Vec<Token>,
    answer: Vec<Token>,
    decodes: u64,
    token_time: Duration,
    fail: bool,
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
        report(0.5);
        std::thread::sleep(self.script.load_time);
        match self.script.load {
            None => report(1.0),
            Some(LoadFault::Aborts) => std::process::abort(),
            Some(LoadFault::Hangs) => hang(),
            Some(LoadFault::Fails(kind)) => {
                let path = request.path.display();
                return Err(Failure::new(kind, format!("{path}: the script says so")));
            }
        }
        let context_size = if request.context_size == 0 {
            CONTEXT
        } else {
            request.context_size
        };
        Ok(FakeBackend {
            info: ModelInfo {
                description: "fake".into(),
                parameters: 1,
                size_bytes: 1,
                context_size,
                context_train: CONTEXT,
                slots: request.slots.max(1),
                kv_tokens: context_size,
                kv_token_bytes: 1,
                vocab_size: 257,
                cpu: "fake".into(),
                has_chat_template: false,
                load_ms: 0,
            },
            seen: Vec::new(),
            answer: Vec::new(),
            decodes: 0,
            token_time: self.script.token_time,
            fail: false,
            script: self.script.clone(),
            progress: Arc::clone(progress),
        })
    }
}

impl FakeBackend {
    /// Sleeps as long as this many tokens take, unless aborted.
    fn compute(&self, tokens: usize) -> Result<(), DecodeError> {
        let n = u32::try_from(tokens).unwrap_or(u32::MAX);
        let mut left = if n == 1 {
            self.token_time
        } else {
            self.script.prefill_time * n
        };
        while !self.progress.is_abort() {
            self.progress.tick();
            if left.is_zero() {
                return Ok(());
            }
            let step = left.min(Duration::from_millis(1));
            std::thread::sleep(step);
            left -= step;
        }
        Err(DecodeError::Aborted)
    }
}

impl Backend for FakeBackend {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn chat_format(&self) -> ChatFormat {
        ChatFormat {
            template: Some("{{ messages[-1].content }}".into()),
            ..ChatFormat::default()
        }
    }

    fn tokenize(&self, text: &str, _add_bos: bool) -> Vec<Token> {
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
        self.token_time = self.script.token_time;
        self.fail = false;
    }

    fn decode(&mut self, tokens: &[Token], _position: u32) -> Result<(), DecodeError> {
        self.decodes += 1;
        if self.fail || self.script.fail_decode == Some(self.decodes) {
            return Err(DecodeError::Code(-3));
        }
        self.compute(tokens.len())?;
        self.seen.extend(tokens);
        Ok(())
    }

    fn begin_sampling(&mut self, _: &Sampling, _: &[Token]) -> Result<(), Failure> {
        Ok(())
    }

    fn sample(&mut self) -> Result<Token, DecodeError> {
        if self.answer.is_empty() {
            self.answer = self.seen.repeat(self.script.repeat.max(1));
            self.answer.push(END);
            self.answer.reverse();
        }
        let rest: Vec<u8> = self
            .answer
            .iter()
            .rev()
            .take(8)
            .flat_map(|t| self.piece(*t))
            .collect();
        if rest.starts_with(b"!abort") {
            std::process::abort();
        }
        if rest.starts_with(b"!hang") {
            hang();
        }
        if rest.starts_with(b"!slow") {
            self.token_time = Duration::from_millis(20);
        }
        self.fail |= rest.starts_with(b"!fail");
        Ok(self.answer.pop().unwrap_or(END))
    }

    fn set_threads(&mut self, _: u32) {}
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts() {
        let script: Script = "token-ms=5,load=oom,fail-decode=2".parse().unwrap();
        assert_eq!(script.token_time, Duration::from_millis(5));
        assert_eq!(
            script.load,
            Some(LoadFault::Fails(FailureKind::OutOfMemory))
        );
        assert_eq!("".parse(), Ok(Script::default()));
        for bad in ["x", "x=1", "token-ms=z", "load=z"] {
            assert!(bad.parse::<Script>().unwrap_err().contains(bad));
        }
    }
}
