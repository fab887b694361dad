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

/// The model's tokenizer.
pub trait Tokenizer {
    /// Its chat metadata.
    fn chat_format(&self) -> ChatFormat;

    /// Tokenizes a text; names of control tokens in it become control tokens. `add_bos`
    /// prepends the BOS token where the model uses one.
    fn tokenize(&self, text: &str, add_bos: bool) -> Vec<Token>;

    /// The bytes of a token; control tokens have none.
    fn piece(&self, token: Token) -> Vec<u8>;

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
