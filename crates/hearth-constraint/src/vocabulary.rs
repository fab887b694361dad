//! A model's tokens in the form for llguidance.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use hearth_proto::{COMPILE_STACK, Failure, FailureKind};
use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Logger, ParserFactory};

use super::error::first_line;

/// The model's own tokenizer: text into tokens, without a begin token and without
/// reading control tokens out of the text.
pub type Tokenize = Arc<dyn Fn(&[u8]) -> Vec<i32> + Send + Sync>;

/// Longer tokens are never allowed: toktrie's nodes count up to 1024 levels.
const MAX_TOKEN_BYTES: usize = 1000;

/// The tokens of a loaded model. Cheap to clone.
#[derive(Clone)]
pub struct Vocabulary {
    factory: Arc<ParserFactory>,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("tokens", &self.trie().vocab_size())
            .finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// `pieces` holds the bytes of every token, `specials` says which of them are
    /// control tokens (never text), `ends` which of them end an answer.
    ///
    /// # Errors
    /// `ModelInvalid` where the tokens are not a valid vocabulary.
    pub fn new(
        mut pieces: Vec<Vec<u8>>,
        specials: &[bool],
        ends: &[i32],
        tokenize: Tokenize,
    ) -> Result<Self, Failure> {
        let size = pieces.len();
        let invalid = |what: &str| {
            Failure::new(
                FailureKind::ModelInvalid,
                format!("the model's vocabulary cannot be used: {what}; try another model file"),
            )
        };
        // Token ids have 24 bits in the trie, and the highest value is reserved.
        if size == 0 || size >= 0xff_ffff {
            return Err(invalid("it has no tokens, or too many"));
        }
        let ends: Vec<TokenId> = ends
            .iter()
            .filter_map(|&id| TokenId::try_from(id).ok())
            .filter(|&id| (id as usize) < size)
            .collect();
        let Some(&end) = ends.first() else {
            return Err(invalid("it has no token that ends an answer"));
        };
        for (id, piece) in (0..).zip(&mut pieces) {
            if piece.len() > MAX_TOKEN_BYTES {
                piece.clear();
            }
            if ends.contains(&id) || specials.get(id as usize) == Some(&true) {
                piece.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
        }
        let info = TokRxInfo::new(u32::try_from(size).unwrap_or(u32::MAX), end);
        let build = AssertUnwindSafe(|| {
            let trie = TokTrie::from(&info, &pieces).with_eos_tokens(&ends);
            let env: TokEnv = Arc::new(Env { trie, tokenize });
            ParserFactory::new(&env, capabilities(), &SlicedBiasComputer::general_slices())
        });
        let factory = llguidance::panic_utils::catch_unwind(build)
            .map_err(|error| invalid(&first_line(&error.to_string())))?;
        Ok(Self {
            factory: Arc::new(factory),
        })
    }

    pub(super) fn trie(&self) -> &TokTrie {
        self.factory.tok_env().tok_trie()
    }

    /// The control token with exactly this text.
    pub(super) fn special(&self, text: &str) -> Option<TokenId> {
        self.trie().get_special_token(text)
    }

    /// The token with exactly this text.
    pub(super) fn token(&self, text: &[u8]) -> Option<TokenId> {
        self.trie().token_id(text)
    }

    /// A text as tokens; the control token if it is the name of one.
    pub(super) fn tokens(&self, text: &str) -> Vec<i32> {
        let ids = match self.special(text) {
            Some(id) => vec![id],
            None => self.factory.tok_env().tokenize_bytes(text.as_bytes()),
        };
        ids.into_iter()
            .filter_map(|id| i32::try_from(id).ok())
            .collect()
    }

    /// Whether a token is a control token.
    pub(super) fn is_control(&self, token: TokenId) -> bool {
        std::str::from_utf8(self.text(token)).is_ok_and(|name| self.special(name) == Some(token))
    }

    /// A token's text, also for control tokens.
    pub(super) fn text(&self, token: TokenId) -> &[u8] {
        let bytes = self.trie().token(token);
        bytes
            .strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER])
            .unwrap_or(bytes)
    }

    /// Compiles a grammar, with a stack for deep recursion and without panics.
    pub(super) fn compile(&self, grammar: TopLevelGrammar) -> Result<llguidance::Matcher, String> {
        self.compile_within(grammar, limits())
    }

    /// The compiler's error for a small grammar, if any.
    pub(super) fn complaint(&self, grammar: TopLevelGrammar) -> Option<String> {
        let limits = ParserLimits {
            initial_lexer_fuel: 50_000,
            max_grammar_size: 10_000,
            precompute_large_lexemes: false,
            ..limits()
        };
        self.compile_within(grammar, limits).err()
    }

    fn compile_within(
        &self,
        grammar: TopLevelGrammar,
        limits: ParserLimits,
    ) -> Result<llguidance::Matcher, String> {
        let compile = || {
            self.factory.create_parser_from_init_ext(
                GrammarInit::Serialized(grammar),
                Logger::new(0, 0),
                capabilities(),
                limits,
            )
        };
        let compiled = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("grammar".into())
                .stack_size(COMPILE_STACK)
                .spawn_scoped(scope, compile)
                .map_err(|error| format!("no thread to compile it: {error}"))?
                .join()
                .map_err(|_| "the compiler failed".to_owned())
        })?;
        let matcher = llguidance::Matcher::new(compiled);
        match matcher.get_error() {
            Some(error) => Err(error),
            None => Ok(matcher),
        }
    }
}

fn capabilities() -> InferenceCapabilities {
    InferenceCapabilities {
        ff_tokens: true,
        ..InferenceCapabilities::default()
    }
}

/// Bounds on the cost of one answer. A step's fuel is about 14 ms on a fast core.
fn limits() -> ParserLimits {
    ParserLimits {
        // 1 to 2 kB each.
        max_lexer_states: 50_000,
        // Symbols; a few hundred kilobytes of schema.
        max_grammar_size: 200_000,
        // Errors are shown to users: without the parser's state.
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

struct Env {
    trie: TokTrie,
    tokenize: Tokenize,
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// The model's tokens for the bytes; if they decode to something else (a blank added in
    /// front, a byte replaced), the longest tokens that fit.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let tokens: Option<Vec<TokenId>> = (self.tokenize)(bytes)
            .into_iter()
            .map(|id| TokenId::try_from(id).ok())
            .collect();
        match tokens {
            Some(tokens) if self.trie.decode_raw(&tokens) == bytes => tokens,
            _ => self.trie.greedy_tokenize(bytes),
        }
    }
}
