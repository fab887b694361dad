//! The token that requests over TCP show.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// A secret word. It is neither shown nor compared in a time that tells of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from the text of its file: letters, digits and `-._~+/=` as a bearer token
    /// has them (RFC 6750, section 2.1); white space around it is none of it.
    ///
    /// # Errors
    /// What is wrong with the text, without saying it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        if token.is_empty() {
            return Err("is empty: write a token into it, `openssl rand -hex 32` makes one".into());
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        if !token.chars().all(fits) {
            return Err(
                "holds more than a token of letters, digits and -._~+/= in one line: write only \
                 the token into it"
                    .into(),
            );
        }
        Ok(Self(token.to_owned()))
    }

    /// Whether this is what was shown. How long it takes depends on the lengths alone.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word() {
        let token = Token::parse(" aZ0-._~+/=\n").unwrap();
        assert!(token.is(b"aZ0-._~+/="));
        for shown in [
            &b""[..],
            b"aZ0",
            b"aZ0-._~+/==",
            b"az0-._~+/=",
            b" aZ0-._~+/=",
        ] {
            assert!(!token.is(shown), "{shown:?}");
        }
        assert!(!format!("{token:?}").contains("aZ0"));
        for (text, part) in [
            (" \n", "empty"),
            ("a b", "only the token"),
            ("a\nb", "only"),
            ("\u{e9}", "only"),
        ] {
            let said = Token::parse(text).unwrap_err();
            assert!(said.contains(part), "{text:?}: {said}");
        }
    }
}
