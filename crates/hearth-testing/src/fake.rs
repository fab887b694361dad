//! A deterministic backend for tests of the loop and of the daemon's fault
//! handling: bytes are tokens, the answer repeats the prompt's last message, and a
//! script, or words in the prompt, cause faults.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_constraint::Vocabulary;
use hearth_gguf::Header;
use hearth_gguf::fit::places;
use hearth_policy::scheduler::MemoryKind;
use hearth_proto::{
    ChatAbilities, Failure, FailureKind, LoadRequest, ModelInfo, ModelKind, Sampling,
};

use super::backend::{
    Backend, ChatFormat, DecodeError, Loader, Mask, Part, Progress, Sampled, Token, argmax,
    no_logits,
};
use super::confidence::Choice;

/// Ends an answer.
const END: Token = 256;

/// The prompt is the last message, and so is the answer. The rest is for the chat layer,
/// which detects the capabilities of a template by rendering examples without a system
/// prompt: in these, the template renders reasoning and calls in a common format, and
/// reads the system prompt and the tools.
const TEMPLATE: &str = "\
{%- set seen = messages[0].content -%}\
{%- for tool in tools or [] -%}{%- set seen = tool.function.name | tojson -%}{%- endfor -%}\
{%- for m in messages -%}\
{%- if m.role == 'assistant' -%}\
{%- if m.reasoning_content and loop.last -%}\
{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}\
{%- endif -%}\
{%- if m.content and loop.last -%}{{ m.content }}{%- endif -%}\
{%- if messages[-1].role != 'tool' and messages[0].role != 'system' -%}\
{%- for c in m.tool_calls or [] -%}\
{{ '<tool_call>\\n{\"name\": \"' + c.function.name + '\", \"arguments\": ' }}\
{{ c.function.arguments | tojson }}{{ '}\\n</tool_call>' }}\
{%- endfor -%}\
{%- endif -%}\
{%- elif loop.last -%}{{ m.content }}{%- endif -%}\
{%- endfor -%}";
/// Marks a state that does not correspond to any tokens.
const LOST: Token = -1;
/// The time for a token after `!slow`.
const SLOW_TOKEN: Duration = Duration::from_millis(20);
/// Digits of a token that is the time of its sampling.
const CLOCK_DIGITS: usize = 9;
/// The number of microseconds after which they wrap around.
const CLOCK_US: u128 = 1_000_000_000;
/// The training context that it reports.
const CONTEXT: u32 = 4096;

/// Faults and delays. Written as `key=value`, separated by commas: `load-ms=N`,
/// `token-ms=N`, `prefill-us=N` (a prompt token), `load=KIND` with `not-found`,
/// `invalid`, `oom`, `abort` or `hang`, `fail-decode=N` (the N-th decode, from 1, fails
/// with code -3), `repeat=N` (the answer is repeated N times), `state=1` (a sequence
/// cannot be cut, as with Mamba), `clock=1` (each token is the time of its sampling
/// instead: the last nine digits of the microseconds since 1970).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    load: Option<LoadFault>,
    load_time: Duration,
    token_time: Duration,
    prefill_time: Duration,
    fail_decode: Option<u64>,
    repeat: usize,
    state: bool,
    clock: bool,
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
                "state" => script.state = number()? != 0,
                "clock" => script.clock = number()? != 0,
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
    /// Faults and delays.
    pub script: Script,
}

/// Answers with its prompt. Words in the prompt cause faults when they are reached in the
/// answer: `!abort` aborts the process, `!hang` hangs, `!slow` takes 20 ms per token from
/// then on, `!fail` fails the decode.
#[derive(Debug)]
pub struct FakeBackend {
    script: Script,
    info: ModelInfo,
    /// The KV cache: each sequence's tokens; [`LOST`] where a decode ended midway.
    cells: BTreeMap<u32, Vec<Token>>,
    last: Vec<Part>,
    decodes: u64,
    /// Sequences whose tokens take [`SLOW_TOKEN`].
    slow: BTreeSet<u32>,
    /// Sequences whose next decode fails.
    failing: BTreeSet<u32>,
    progress: Arc<Progress>,
}

/// The state of one answer.
#[derive(Clone, Debug, Default)]
pub struct FakeSampler {
    prompt: Vec<Token>,
    answered: Vec<Token>,
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
        let context_size = request.context_size;
        Ok(FakeBackend {
            info: ModelInfo {
                description: "fake".into(),
                parameters: 1,
                size_bytes: 1,
                context_size,
                context_train: CONTEXT,
                slots: request.slots.max(1),
                kv_tokens: context_size.saturating_add(request.kept_tokens),
                kv_token_bytes: 1,
                vocab_size: 257,
                cpu: "fake".into(),
                has_chat_template: false,
                kind: ModelKind::Chat,
                chat: ChatAbilities::default(),
                load_ms: 0,
            },
            cells: BTreeMap::new(),
            last: Vec::new(),
            decodes: 0,
            slow: BTreeSet::new(),
            failing: BTreeSet::new(),
            script: self.script.clone(),
            progress: Arc::clone(progress),
        })
    }
}

impl FakeBackend {
    /// Sleeps as long as this batch takes, unless aborted.
    fn compute(&self, parts: &[Part]) -> Result<(), DecodeError> {
        let tokens = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let mut left = if !parts.iter().all(|part| part.samples) {
            self.script.prefill_time * tokens
        } else if parts.iter().any(|part| self.slow.contains(&part.seq)) {
            SLOW_TOKEN
        } else {
            self.script.token_time
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
    type Sampler = FakeSampler;

    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn set_chat(&mut self, chat: ChatAbilities) {
        self.info.chat = chat;
    }

    fn chat_format(&self) -> ChatFormat {
        ChatFormat {
            template: Some(TEMPLATE.into()),
            ..ChatFormat::default()
        }
    }

    fn tokenize(&self, text: &str, _add_bos: bool) -> Vec<Token> {
        text.bytes().map(Token::from).collect()
    }

    fn piece(&self, token: Token) -> Vec<u8> {
        if token > END {
            let time = token - END - 1;
            return format!("{time:0CLOCK_DIGITS$}").into_bytes();
        }
        u8::try_from(token).into_iter().collect()
    }

    fn is_end(&self, token: Token) -> bool {
        token == END
    }

    fn vocabulary(&self) -> Result<Vocabulary, Failure> {
        let pieces = (0..=END).map(|token| self.piece(token)).collect();
        let tokenize = |text: &[u8]| text.iter().map(|b| Token::from(*b)).collect();
        Vocabulary::new(pieces, &[], &[END], Arc::new(tokenize))
    }

    fn places(&self) -> (u32, u32) {
        places(&Header::default(), self.info.slots, 1)
    }

    fn memory(&self) -> MemoryKind {
        if self.script.state {
            MemoryKind::Recurrent
        } else {
            MemoryKind::Full
        }
    }

    fn positions(&self, seq: u32) -> Option<(u32, u32)> {
        let cells = self.cells.get(&seq)?;
        let last = u32::try_from(cells.len()).ok()?.checked_sub(1)?;
        Some((if self.script.state { last } else { 0 }, last))
    }

    fn remove(&mut self, seq: u32, position: u32) -> bool {
        if let Some(cells) = self.cells.get_mut(&seq) {
            let is_cut = (1..cells.len()).contains(&(position as usize));
            if is_cut && self.script.state {
                return false;
            }
            cells.truncate(position as usize);
        }
        if position == 0 {
            self.cells.remove(&seq);
            self.failing.remove(&seq);
            self.slow.remove(&seq);
        }
        true
    }

    fn share(&mut self, from: u32, to: u32, tokens: u32) -> bool {
        if !self.is_usable(from, tokens) {
            return false;
        }
        let cells = self.cells.get(&from);
        let shared = cells.and_then(|cells| cells.get(..tokens as usize));
        let shared = shared.unwrap_or_default().to_vec();
        self.cells.insert(to, shared);
        true
    }

    fn clear(&mut self) {
        self.cells.clear();
    }

    fn save(&mut self, seq: u32, tokens: u32) -> Vec<u8> {
        if !self.is_usable(seq, tokens) {
            return Vec::new();
        }
        let cells = self.cells.get(&seq);
        cells
            .into_iter()
            .flatten()
            .flat_map(|t| t.to_le_bytes())
            .collect()
    }

    fn restore(&mut self, seq: u32, saved: &[u8], tokens: u32) -> bool {
        let (cells, rest) = saved.as_chunks();
        let cells: Vec<Token> = cells.iter().map(|c| Token::from_le_bytes(*c)).collect();
        let used: usize = self.cells.values().map(Vec::len).sum();
        let fits = used + cells.len() <= self.info.kv_tokens as usize;
        if !fits || !rest.is_empty() || cells.len() != tokens as usize {
            return false;
        }
        self.cells.insert(seq, cells);
        true
    }

    fn settings(&self) -> String {
        "fake".into()
    }

    fn decode(&mut self, parts: &[Part]) -> Result<(), DecodeError> {
        self.decodes += 1;
        let fails = parts.iter().any(|part| self.failing.contains(&part.seq));
        if fails || self.script.fail_decode == Some(self.decodes) {
            return Err(DecodeError::Code(-3));
        }
        let used: usize = self.cells.values().map(Vec::len).sum();
        if used + parts.len() > self.info.kv_tokens as usize {
            return Err(DecodeError::NoRoom);
        }
        let computed = self.compute(parts);
        if computed.is_err() && self.script.state {
            for part in parts {
                self.cells.entry(part.seq).or_default().push(LOST);
            }
        }
        computed?;
        for part in parts {
            let cells = self.cells.entry(part.seq).or_default();
            if cells.len() != part.position as usize {
                // llama.cpp refuses a gap too.
                return Err(DecodeError::Code(-1));
            }
            cells.push(part.token);
        }
        self.last.clear();
        self.last.extend(parts);
        Ok(())
    }

    fn batch_max(&self) -> u32 {
        128
    }

    fn sampler(&self, _: &Sampling) -> Result<FakeSampler, Failure> {
        Ok(FakeSampler::default())
    }

    fn accept(&self, sampler: &mut FakeSampler, tokens: &[Token], are_answer: bool) {
        if are_answer {
            sampler.answered.extend(tokens);
        } else {
            sampler.prompt.extend(tokens);
        }
    }

    /// Repeats the prompt from the KV cache, so that wrong cells show in the answer.
    fn sample(
        &mut self,
        sampler: &mut FakeSampler,
        part: usize,
        mask: Option<Mask<'_>>,
        logprobs: Option<u8>,
    ) -> Result<Sampled, Failure> {
        let part = self.last.get(part).copied().ok_or_else(no_logits)?;
        let cells = self.cells.get(&part.seq).ok_or_else(no_logits)?;
        let prompt = cells.get(..sampler.prompt.len()).ok_or_else(no_logits)?;
        // Guessed tokens may follow the part.
        if cells.get(prompt.len()..=part.position as usize) != Some(&sampler.answered) {
            return Err(no_logits());
        }
        let all = prompt.len() * self.script.repeat.max(1);
        let at = sampler.answered.len();
        let rest = prompt.iter().cycle().skip(at % prompt.len().max(1));
        let rest: Vec<Token> = rest.take(all.saturating_sub(at).min(8)).copied().collect();
        let text: Vec<u8> = rest.iter().flat_map(|t| self.piece(*t)).collect();
        if text.starts_with(b"!abort") {
            std::process::abort();
        }
        if text.starts_with(b"!hang") {
            hang();
        }
        if text.starts_with(b"!slow") {
            self.slow.insert(part.seq);
        }
        if text.starts_with(b"!fail") {
            self.failing.insert(part.seq);
        }
        let mut token = rest.first().copied().unwrap_or(END);
        if self.script.clock && token != END {
            token = time_token();
        }
        let mut choice = None;
        if let Some(mask) = mask {
            let mut logits = vec![0.0; 257];
            if let Some(logit) = usize::try_from(token).ok().and_then(|n| logits.get_mut(n)) {
                *logit = 1.0;
            }
            mask(&mut logits)?;
            token = argmax(&logits).ok_or_else(no_logits)?;
            choice = Choice::of(&logits, token);
        }
        Ok(Sampled {
            token,
            logprobs: logprobs.map(|n| (0.0, vec![(token, 0.0); usize::from(n.min(1))])),
            choice,
        })
    }

    /// The frequency of each letter.
    fn embed(&mut self, tokens: &[Token]) -> Result<Vec<f32>, Failure> {
        let text: Vec<u8> = tokens.iter().flat_map(|t| self.piece(*t)).collect();
        if text.starts_with(b"!abort") {
            std::process::abort();
        }
        let mut vector = [0.0f32; 26];
        for byte in text {
            let at = usize::from(byte.to_ascii_lowercase().wrapping_sub(b'a'));
            if let Some(count) = vector.get_mut(at) {
                *count += 1.0;
            }
        }
        let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        Ok(vector.iter().map(|v| v / length.max(1.0)).collect())
    }

    fn embedding_tokens_max(&self) -> u32 {
        self.info.context_size
    }

    fn set_threads(&mut self, _: u32, _: u32) {}

    fn shrink(&mut self, is_empty: bool) {
        if is_empty {
            self.info.kv_tokens = self.info.kv_tokens.min(self.info.context_size);
        }
    }
}

/// A token for the current time.
fn time_token() -> Token {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = now.unwrap_or_default().as_micros() % CLOCK_US;
    END + 1 + Token::try_from(time).unwrap_or_default()
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
