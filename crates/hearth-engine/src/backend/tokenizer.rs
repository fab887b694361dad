//! Texts and tokens of a model.

use hearth_constraint::Vocabulary;
use hearth_proto::Failure;

/// A token id of the model's vocabulary.
pub type Token = i32;

/// The chat metadata of the model file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatFormat {
    /// `tokenizer.chat_template`.
    pub template: Option<String>,
    /// `tokenizer.chat_template.tool_use`, for requests with tools.
    pub tool_template: Option<String>,
    /// Text of the BOS token; empty where there is none.
    pub bos: String,
    /// Text of the EOS token; empty where there is none.
    pub eos: String,
}

/// The tokens around which a model fills in text, and what else its prompt needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InfillTokens {
    /// Before the text before.
    pub prefix: Token,
    /// Before the text after.
    pub suffix: Token,
    /// Before the text that the model writes.
    pub middle: Token,
    /// Before the name of a repository.
    pub repository: Option<Token>,
    /// Before the name of a file.
    pub file: Option<Token>,
    /// The BOS token, where prompts begin with one.
    pub bos: Option<Token>,
}

/// How a reranker expects a query and a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RerankFormat {
    /// `tokenizer.chat_template.rerank`, a text with `{query}` and `{document}`. Without it the
    /// other fields count.
    pub template: Option<String>,
    /// What comes first.
    pub begin: Option<Token>,
    /// What follows the query and the document.
    pub end: Option<Token>,
    /// What is between both.
    pub separator: Option<Token>,
}

/// The model's tokenizer.
pub trait Tokenizer {
    /// Its chat metadata.
    fn chat_format(&self) -> ChatFormat;

    /// Tokenizes a text; names of control tokens in it become control tokens. `add_bos`
    /// prepends the BOS token where the model uses one.
    fn tokenize(&self, text: &str, add_bos: bool) -> Vec<Token>;

    /// As [`Self::tokenize`], of a text in which names of control tokens are ordinary text.
    fn tokenize_literal(&self, text: &str, add_bos: bool) -> Vec<Token>;

    /// The same without a BOS token.
    fn tokenize_plain(&self, text: &str) -> Vec<Token> {
        self.tokenize_literal(text, false)
    }

    /// The tokens for filling in text; `None` where the vocabulary has none.
    fn infill_tokens(&self) -> Option<InfillTokens>;

    /// How it expects a query and a document.
    fn rerank_format(&self) -> RerankFormat;

    /// The bytes of a token; control tokens have none.
    fn piece(&self, token: Token) -> Vec<u8>;

    /// The bytes of a token, or the name of a control token.
    fn name(&self, token: Token) -> Vec<u8> {
        self.piece(token)
    }

    /// The token with exactly this name, if there is one; includes control tokens.
    fn named(&self, name: &str) -> Option<Token> {
        match self.tokenize(name, false)[..] {
            [token] => Some(token),
            _ => None,
        }
    }

    /// Whether the token ends an answer.
    fn is_end(&self, token: Token) -> bool;

    /// All tokens in the format that constraints need; slow for a large vocabulary.
    ///
    /// # Errors
    /// `ModelInvalid` where the tokens form no valid vocabulary.
    fn vocabulary(&self) -> Result<Vocabulary, Failure>;
}
