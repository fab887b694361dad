//! Which calls run without a question, and the question for the others.

use std::collections::HashSet;

use crate::chat_input::ChatInput;
use crate::error::Result;
use crate::output;

/// The calls that are allowed.
#[derive(Debug, Default)]
pub struct Consent {
    all: bool,
    tools: HashSet<String>,
}

/// What the user answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    Always,
    No,
}

impl Answer {
    /// `None` if it is neither.
    fn parse(line: &str) -> Option<Self> {
        match line.trim().to_lowercase().as_str() {
            "y" | "yes" => Some(Self::Yes),
            "a" | "always" => Some(Self::Always),
            "n" | "no" => Some(Self::No),
            _ => None,
        }
    }
}

impl Consent {
    pub fn new(all: bool, tools: impl IntoIterator<Item = String>) -> Self {
        Self {
            all,
            tools: tools.into_iter().collect(),
        }
    }

    /// Whether the tool runs without a question.
    pub fn has(&self, tool: &str) -> bool {
        self.all || self.tools.contains(tool)
    }

    /// Whether this call may run; asks if there is someone to ask.
    pub async fn obtain(&mut self, tool: &str, call: &str, input: &mut ChatInput) -> Result<bool> {
        if self.has(tool) {
            return Ok(true);
        }
        if !input.is_terminal() {
            output::note(&format!(
                "{tool} was not run: standard input is not a terminal, so nobody can confirm it; \
                 allow it with --allow {tool}"
            ));
            return Ok(false);
        }
        output::note(&visible(call));
        loop {
            let question = format!("run {tool}? y yes, a always in this chat, n no: ");
            // Ctrl-C and Ctrl-D decline.
            let Some(line) = input.ask(question).await? else {
                return Ok(false);
            };
            match Answer::parse(&line) {
                Some(answer) => return Ok(self.record(tool, answer)),
                None => output::note("answer y, a or n"),
            }
        }
    }

    fn record(&mut self, tool: &str, answer: Answer) -> bool {
        if answer == Answer::Always {
            self.tools.insert(tool.to_owned());
        }
        answer != Answer::No
    }
}

/// The text of a call with the characters escaped that are invisible or change the order
/// in which others are shown: what is confirmed must be what is seen.
fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars().fold(String::new(), |mut shown, c| {
        if hidden(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_is_remembered_for_that_tool_only() {
        let mut consent = Consent::new(false, ["a__free".to_owned()]);
        assert!(consent.has("a__free") && !consent.has("a__x"));
        assert!(consent.record("a__x", Answer::Yes) && !consent.has("a__x"));
        assert!(!consent.record("a__x", Answer::No) && !consent.has("a__x"));
        assert!(consent.record("a__x", Answer::Always) && consent.has("a__x"));
        assert!(!consent.has("a__y"));
        assert!(Consent::new(true, []).has("anything"));
    }

    #[test]
    fn only_clear_answers_count() {
        for (line, answer) in [
            (" Y\n", Some(Answer::Yes)),
            ("always", Some(Answer::Always)),
            ("no", Some(Answer::No)),
            ("", None),
            ("yn", None),
        ] {
            assert_eq!(Answer::parse(line), answer, "{line:?}");
        }
    }

    #[test]
    fn what_is_confirmed_is_visible() {
        assert_eq!(visible("rm é 日"), "rm é 日");
        assert_eq!(
            visible("a\u{202e}b\u{200b}\u{9b}\n"),
            "a\\u{202e}b\\u{200b}\\u{9b}\\u{a}"
        );
    }
}
