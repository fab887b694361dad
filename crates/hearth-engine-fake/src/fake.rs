//! A deterministic backend for tests of the engine's loop and of the daemon's fault
//! handling: bytes are tokens, the answer repeats the prompt's last message, and a
//! script, or words in the prompt, cause faults.

mod decoder;
mod kv_store;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hearth_constraint::Vocabulary;
use hearth_engine::backend::{
    Backend, ChatFormat, DecodeError, InfillTokens, LoadedAdapter, Loader, Part, Progress,
    RerankFormat, Token, Tokenizer,
};
use hearth_proto::{ChatAbilities, Failure, LoadRequest, ModelInfo, ModelKind};

use self::script::LoadFault;
pub use self::script::Script;

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
/// The time for a token after `!slow`.
const SLOW_TOKEN: Duration = Duration::from_millis(20);
/// Digits of a token that is the time of its sampling.
const CLOCK_DIGITS: usize = 9;
/// The training context that it reports.
const CONTEXT: u32 = 4096;

/// Loads nothing.
#[derive(Clone, Debug, Default)]
pub struct FakeLoader {
    /// Faults and delays.
    pub script: Script,
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
        Ok(FakeBackend::new(&self.script, request, progress))
    }
}

/// Answers with its prompt. Words in the prompt cause faults when they are reached in the
/// answer: `!abort` aborts the process, `!hang` hangs, `!slow` takes 20 ms per token from
/// then on, `!fail` fails the decode.
#[derive(Debug)]
pub struct FakeBackend {
    script: Script,
    info: ModelInfo,
    /// The KV cache: each sequence's tokens; [`decoder::LOST`] where a decode ended midway.
    cells: BTreeMap<u32, Vec<Token>>,
    last: Vec<Part>,
    decodes: u64,
    /// Sequences whose tokens take [`SLOW_TOKEN`].
    slow: BTreeSet<u32>,
    /// Sequences whose next decode fails.
    failing: BTreeSet<u32>,
    progress: Arc<Progress>,
    adapters: Vec<LoadedAdapter>,
    /// Whether there is a draft model.
    has_draft: bool,
    /// The prompt of the answer that was sampled last.
    prompt: Vec<Token>,
    /// Whether adapters are applied: then answers are in capital letters.
    is_adapted: bool,
}

/// The state of one answer.
#[derive(Clone, Debug, Default)]
pub struct FakeSampler {
    prompt: Vec<Token>,
    answered: Vec<Token>,
}

impl FakeBackend {
    fn new(script: &Script, request: &LoadRequest, progress: &Arc<Progress>) -> Self {
        let context_size = request.context_size;
        Self {
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
                vision: false,
                audio: false,
                draft_problem: String::new(),
                bos_token: String::new(),
                eos_token: String::new(),
                sampling: Box::new(request.sampling.clone()),
                load_ms: 0,
            },
            cells: BTreeMap::new(),
            last: Vec::new(),
            decodes: 0,
            slow: BTreeSet::new(),
            failing: BTreeSet::new(),
            script: script.clone(),
            progress: Arc::clone(progress),
            adapters: adapters(request),
            has_draft: request.draft.is_some(),
            prompt: Vec::new(),
            is_adapted: false,
        }
    }

    /// Does what the text that is reached in an answer says.
    fn obey(&mut self, text: &[u8], seq: u32) {
        if text.starts_with(b"!abort") {
            std::process::abort();
        }
        if text.starts_with(b"!hang") {
            hang();
        }
        if text.starts_with(b"!slow") {
            self.slow.insert(seq);
        }
        if text.starts_with(b"!fail") {
            self.failing.insert(seq);
        }
    }

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

impl Tokenizer for FakeBackend {
    fn chat_format(&self) -> ChatFormat {
        ChatFormat {
            template: Some(TEMPLATE.into()),
            ..ChatFormat::default()
        }
    }

    fn tokenize(&self, text: &str, _add_bos: bool) -> Vec<Token> {
        text.bytes().map(Token::from).collect()
    }

    fn tokenize_literal(&self, text: &str, _: bool) -> Vec<Token> {
        self.tokenize(text, false)
    }

    /// Control characters, which no text has.
    fn infill_tokens(&self) -> Option<InfillTokens> {
        Some(InfillTokens {
            prefix: 2,
            suffix: 3,
            middle: 4,
            ..InfillTokens::default()
        })
    }

    fn rerank_format(&self) -> RerankFormat {
        RerankFormat::default()
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
}

impl Backend for FakeBackend {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn set_chat(&mut self, chat: ChatAbilities) {
        self.info.chat = chat;
    }

    fn adapters(&self) -> &[LoadedAdapter] {
        &self.adapters
    }

    /// The next tokens of the answer; every eleventh is wrong.
    fn draft(&mut self, tokens: &[Token], most: usize) -> Vec<Token> {
        if !self.has_draft || self.prompt.is_empty() {
            return Vec::new();
        }
        let prompt = self.prompt.iter().copied().cycle();
        let expected = (tokens.len()..).zip(prompt.skip(tokens.len() % self.prompt.len()));
        let drafted = expected.map(|(at, token)| if at % 11 == 0 { END } else { token });
        drafted.take(most).collect()
    }

    fn release_draft(&mut self) {
        self.has_draft = false;
    }

    fn shrink(&mut self, is_empty: bool) {
        if is_empty {
            self.info.kv_tokens = self.info.kv_tokens.min(self.info.context_size);
        }
    }
}

/// The adapters of a request, identified by their place in it.
fn adapters(request: &LoadRequest) -> Vec<LoadedAdapter> {
    let files = (1..).zip(&request.adapters);
    let loaded = files.map(|(id, file)| LoadedAdapter {
        name: file.name.clone(),
        loaded: Ok(id),
    });
    loaded.collect()
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}
