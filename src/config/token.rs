//! The token for requests over TCP.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// A secret. It is never printed, and it is compared in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from the text of its file: letters, digits and `-._~+/=` as in a
    /// bearer token (RFC 6750, section 2.1). Surrounding white space is removed.
    ///
    /// # Errors
    /// What is wrong with the text, without the text itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        if token.is_empty() {
            return Err(
                "is empty: write a token into it, for example from `openssl rand -hex 32`".into(),
            );
        }
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        if !token.chars().all(is_allowed) {
            return Err(
                "contains characters other than letters, digits and -._~+/=: write only the token \
                 into it"
                    .into(),
            );
        }
        Ok(Self(token.to_owned()))
    }

    /// Compares the token in a time that depends on the lengths only.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
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
    fn a_token_is_validated_compared_and_not_printed() {
        let token = Token::parse(" aZ0-._~+/=\n").unwrap();
        assert!(token.matches(b"aZ0-._~+/="));
        for other in [
            &b""[..],
            b"aZ0",
            b"aZ0-._~+/==",
            b"az0-._~+/=",
            b" aZ0-._~+/=",
        ] {
            assert!(!token.matches(other), "{other:?}");
        }
        assert!(!format!("{token:?}").contains("aZ0"));
        for (text, part) in [
            (" \n", "empty"),
            ("a b", "only the token"),
            ("a\nb", "only"),
            ("\u{e9}", "only"),
        ] {
            let message = Token::parse(text).unwrap_err();
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }
}
