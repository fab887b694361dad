//! Converts token bytes to text that may be emitted.

/// Collects the bytes of an answer and returns text: only complete characters, and
/// nothing that may still become the beginning of a stop string.
#[derive(Debug, Default)]
pub struct TextStream {
    stop: Vec<String>,
    /// Bytes that do not form a complete character yet.
    partial: Vec<u8>,
    /// Text held back because it may begin a stop string.
    held: String,
    stopped_by: Option<String>,
    has_line_break: bool,
}

impl TextStream {
    /// A stream that ends before any of `stop`; empty strings are ignored.
    pub fn new(stop: &[String]) -> Self {
        Self {
            stop: stop.iter().filter(|s| !s.is_empty()).cloned().collect(),
            ..Self::default()
        }
    }

    /// Whether a stop string occurred.
    pub fn is_stopped(&self) -> bool {
        self.stopped_by.is_some()
    }

    /// The stop string that occurred.
    pub fn stopped_by(&self) -> Option<&str> {
        self.stopped_by.as_deref()
    }

    /// Whether a line has ended.
    pub fn has_line_break(&self) -> bool {
        self.has_line_break
    }

    /// Adds a token's bytes and returns the text that can be emitted.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.is_stopped() {
            return String::new();
        }
        self.has_line_break |= bytes.contains(&b'\n');
        self.partial.extend_from_slice(bytes);
        let whole = take_utf8(&mut self.partial);
        self.held.push_str(&whole);
        let found = self
            .stop
            .iter()
            .filter_map(|s| Some((self.held.find(s.as_str())?, s)))
            .min_by_key(|(at, _)| *at);
        if let Some((at, stop)) = found {
            self.stopped_by = Some(stop.clone());
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self
            .stop
            .iter()
            .map(|s| overlap(&self.held, s))
            .max()
            .unwrap_or(0);
        let tail = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, tail)
    }

    /// The remaining text at the end; an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        if self.is_stopped() {
            return String::new();
        }
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.partial)));
        text
    }
}

/// Removes all complete characters from the front; invalid bytes become U+FFFD.
fn take_utf8(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    loop {
        match std::str::from_utf8(bytes) {
            Ok(all) => {
                text.push_str(all);
                bytes.clear();
                return text;
            }
            Err(error) => {
                let valid = error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&bytes[..valid]));
                let bad = error.error_len();
                bytes.drain(..valid + bad.unwrap_or(0));
                if bad.is_none() {
                    return text;
                }
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }
}

/// Length of the longest suffix of `text` that is a proper prefix of `stop`.
pub(super) fn overlap(text: &str, stop: &str) -> usize {
    (1..stop.len().min(text.len() + 1))
        .rev()
        .filter(|n| stop.is_char_boundary(*n))
        .find(|n| text.ends_with(&stop[..*n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stop: &[&str], tokens: &[&[u8]]) -> (String, bool) {
        let stop: Vec<String> = stop.iter().map(|s| (*s).to_owned()).collect();
        let mut stream = TextStream::new(&stop);
        let mut out = String::new();
        for token in tokens {
            out.push_str(&stream.push(token));
        }
        out.push_str(&stream.finish());
        (out, stream.is_stopped())
    }

    #[test]
    fn a_character_split_over_tokens_is_sent_complete() {
        assert_eq!(run(&[], &[b"a\xc3", b"\xa9b"]).0, "aéb");
        assert_eq!(run(&[], &[b"\xf0\x9f", b"\x94", b"\xa5"]).0, "🔥");
        assert_eq!(run(&[], &[b"a\xff", b"b"]).0, "a\u{fffd}b");
        assert_eq!(run(&[], &[b"a\xc3"]).0, "a\u{fffd}");
    }

    #[test]
    fn stop_strings_across_tokens_are_removed() {
        assert_eq!(
            run(&["END"], &[b"one E", b"N", b"D two"]),
            ("one ".into(), true)
        );
        assert_eq!(
            run(&["END"], &[b"one E", b"N", b"E"]),
            ("one ENE".into(), false)
        );
        assert_eq!(run(&["b", "ab"], &[b"xab"]), ("x".into(), true));
        assert_eq!(run(&[""], &[b"x"]), ("x".into(), false));
    }

    proptest! {
        /// However text is split into tokens, the output is the text up to the first stop
        /// string.
        #[test]
        fn cutting_does_not_matter(text in "[ab é🔥]{0,40}", stop in "[abé]{1,3}", cuts in prop::collection::vec(1usize..4, 0..40)) {
            let mut rest = text.as_bytes();
            let mut tokens = Vec::new();
            for n in cuts {
                let (token, more) = rest.split_at(n.min(rest.len()));
                tokens.push(token);
                rest = more;
            }
            tokens.push(rest);
            let (out, stopped) = run(&[&stop], &tokens);
            let expected = text.split(stop.as_str()).next().unwrap_or_default();
            prop_assert_eq!(out, expected);
            prop_assert_eq!(stopped, text.contains(&stop));
        }
    }
}
