//! Texts into tokens and back: `/tokenize` and `/detokenize`.

use hearth_proto::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::read::{object, read};
use crate::scalars::{Flag, Text, Token};
use crate::shape::List;

/// A text to tokenize.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizeRequest {
    /// The text.
    pub text: String,
    /// The model; `None`: the loaded or default one.
    pub model: Option<String>,
    /// Whether the token that begins a text is added.
    pub add_special: bool,
    /// Whether names of control tokens become these tokens.
    pub parse_special: bool,
    /// Whether the text of each token is wanted.
    pub with_pieces: bool,
}

/// Tokens to convert to text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetokenizeRequest {
    /// The tokens.
    pub tokens: Vec<i32>,
    /// The model; `None`: the loaded or default one.
    pub model: Option<String>,
}

#[derive(Debug, Deserialize)]
struct TokenizeFields {
    content: Option<Text>,
    model: Option<Text>,
    add_special: Option<Flag>,
    parse_special: Option<Flag>,
    with_pieces: Option<Flag>,
}

#[derive(Debug, Deserialize)]
struct DetokenizeFields {
    tokens: Option<List<Token>>,
    model: Option<Text>,
}

/// Decodes a request to `/tokenize`.
///
/// # Errors
/// `InvalidArgs` naming the field.
pub fn decode_tokenize(body: &[u8]) -> Result<TokenizeRequest, Failure> {
    let body = object(body)?;
    let fields: TokenizeFields = read(&body)?;
    let content = fields.content.map(String::from);
    let flag = |flag: Option<Flag>, otherwise| flag.map_or(otherwise, Into::into);
    Ok(TokenizeRequest {
        text: content.ok_or_else(|| Failure::invalid_field("content", "must be a string"))?,
        model: fields.model.map(Into::into),
        add_special: flag(fields.add_special, false),
        parse_special: flag(fields.parse_special, true),
        with_pieces: flag(fields.with_pieces, false),
    })
}

/// Decodes a request to `/detokenize`.
///
/// # Errors
/// `InvalidArgs` naming the field.
pub fn decode_detokenize(body: &[u8]) -> Result<DetokenizeRequest, Failure> {
    let body = object(body)?;
    let fields: DetokenizeFields = read(&body)?;
    let tokens = fields.tokens;
    let tokens = tokens.ok_or_else(|| Failure::invalid_field("tokens", "must be a list"))?;
    Ok(DetokenizeRequest {
        tokens: tokens.0.into_iter().map(|token| token.0).collect(),
        model: fields.model.map(Into::into),
    })
}

/// The response to `/tokenize`; `pieces` are the bytes of each token, `None` if only the numbers
/// are wanted. A piece that is no text is a list of its bytes.
pub fn tokenize_response(tokens: &[i32], pieces: Option<&[Vec<u8>]>) -> Value {
    let Some(pieces) = pieces else {
        return json!({"tokens": tokens});
    };
    let named = tokens.iter().zip(pieces).map(|(id, bytes)| {
        let piece = match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!(bytes),
        };
        json!({"id": id, "piece": piece})
    });
    json!({"tokens": named.collect::<Vec<Value>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenize_reads_all_fields() {
        let request = decode_tokenize(br#"{"content": "a"}"#).unwrap();
        let plain = TokenizeRequest {
            text: "a".into(),
            model: None,
            add_special: false,
            parse_special: true,
            with_pieces: false,
        };
        assert_eq!(request, plain);
        let body = json!({"content": "a", "model": "m", "add_special": true,
            "parse_special": false, "with_pieces": true});
        let request = decode_tokenize(body.to_string().as_bytes()).unwrap();
        let all = TokenizeRequest {
            model: Some("m".into()),
            add_special: true,
            parse_special: false,
            with_pieces: true,
            ..plain
        };
        assert_eq!(request, all);
    }

    #[test]
    fn detokenize_reads_tokens() {
        let request = decode_detokenize(br#"{"tokens": [1, 2.0, -1], "model": "m"}"#).unwrap();
        assert_eq!(request.tokens, [1, 2, -1]);
        assert_eq!(request.model.as_deref(), Some("m"));
    }

    #[test]
    fn errors_name_the_field() {
        for (body, field) in [
            (json!({}), "content"),
            (json!({"content": 1}), "content"),
            (json!({"content": "a", "add_special": "yes"}), "add_special"),
            (json!({"content": "a", "parse_special": 1}), "parse_special"),
            (json!({"content": "a", "with_pieces": 1}), "with_pieces"),
            (json!({"content": "a", "model": 1}), "model"),
        ] {
            let failure = decode_tokenize(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{body}");
        }
        for (body, field) in [
            (json!({}), "tokens"),
            (json!({"tokens": "1"}), "tokens"),
            (json!({"tokens": [1, "2"]}), "tokens[1]"),
            (json!({"tokens": [1.5]}), "tokens[0]"),
            (json!({"tokens": [3_000_000_000_u32]}), "tokens[0]"),
        ] {
            let failure = decode_detokenize(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn pieces_are_texts_or_bytes() {
        assert_eq!(tokenize_response(&[1, 2], None), json!({"tokens": [1, 2]}));
        let pieces = [b"a".to_vec(), vec![0xc3]];
        assert_eq!(
            tokenize_response(&[1, 2], Some(&pieces)),
            json!({"tokens": [{"id": 1, "piece": "a"}, {"id": 2, "piece": [0xc3]}]})
        );
    }
}
