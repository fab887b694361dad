//! How a model expects the texts of rerankers and of filling in, by its file.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use crate::backend::{InfillTokens, RerankFormat, Token};

/// `LLAMA_TOKEN_NULL`: the vocabulary has no such token.
const NO_TOKEN: Token = -1;

/// The tokens for filling in text; without those for prefix, suffix and middle there are none.
pub(super) fn infill_tokens(model: &LlamaModel) -> Option<InfillTokens> {
    let vocab = model.vocab();
    Some(InfillTokens {
        prefix: token(vocab.fim_pre())?,
        suffix: token(vocab.fim_suf())?,
        middle: token(vocab.fim_mid())?,
        repository: token(vocab.fim_rep()),
        file: token(vocab.fim_sep()),
        bos: token(vocab.bos()).filter(|_| vocab.should_add_bos()),
    })
}

/// The format for pairs, as llama.cpp's server renders them: where the vocabulary has no EOS
/// token, its separator ends a text.
pub(super) fn rerank_format(model: &LlamaModel) -> RerankFormat {
    let vocab = model.vocab();
    let separator = token(vocab.sep());
    RerankFormat {
        // `LlamaModel::chat_template` passes a freed name on (llama-cpp-2 0.1.160).
        template: model.meta_val_str("tokenizer.chat_template.rerank").ok(),
        begin: token(vocab.bos()).filter(|_| vocab.should_add_bos()),
        end: token(vocab.eos())
            .or(separator)
            .filter(|_| vocab.should_add_eos()),
        separator: separator.filter(|_| vocab.should_add_sep()),
    }
}

fn token(token: LlamaToken) -> Option<Token> {
    (token.0 != NO_TOKEN).then_some(token.0)
}
