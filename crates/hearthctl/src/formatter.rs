//! The layout of an answer as text: reasoning in faint and only in a terminal, the answer
//! itself, and each tool call on a separate line.

use std::borrow::Cow;

use crate::output;

/// What was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Content,
    Reasoning,
    Call,
}

/// Formats an answer. The returned strings are to be written unchanged.
#[derive(Debug)]
pub struct Formatter {
    /// Whether the output is a terminal.
    is_terminal: bool,
    last: Option<Kind>,
    /// Whether the last line is incomplete.
    open: bool,
}

impl Formatter {
    /// A formatter for a terminal or a pipe.
    pub fn new(is_terminal: bool) -> Self {
        Self {
            is_terminal,
            last: None,
            open: false,
        }
    }

    /// More of the answer.
    pub fn content(&mut self, text: &str) -> String {
        self.add(Kind::Content, text)
    }

    /// More of the reasoning; nothing for a pipe.
    pub fn reasoning(&mut self, text: &str) -> String {
        if self.is_terminal {
            self.add(Kind::Reasoning, text)
        } else {
            String::new()
        }
    }

    /// A tool call: `tool call: weather {"city":"Rome"}`.
    pub fn call(&mut self, name: &str, arguments: &str) -> String {
        let line = self.add(Kind::Call, &format!("tool call: {name} {arguments}"));
        line + &self.end()
    }

    /// Ends the last line, so that the next output starts a new line.
    pub fn end(&mut self) -> String {
        let end = if self.open { "\n" } else { "" };
        self.open = false;
        end.to_owned()
    }

    fn add(&mut self, kind: Kind, text: &str) -> String {
        let text = if self.is_terminal {
            output::clean(text)
        } else {
            Cow::Borrowed(text)
        };
        if text.is_empty() {
            return String::new();
        }
        let mut shown = String::new();
        if self.last.is_some_and(|last| last != kind) {
            shown += &self.end();
            if self.last == Some(Kind::Reasoning) {
                shown.push('\n');
            }
        }
        self.last = Some(kind);
        self.open = !text.ends_with('\n');
        shown += &match kind {
            Kind::Reasoning => output::coloured(output::FAINT, &text),
            Kind::Content | Kind::Call => text,
        };
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(is_terminal: bool) -> String {
        let mut formatter = Formatter::new(is_terminal);
        let mut all = formatter.reasoning("Hm\x1b[2J");
        all += &formatter.reasoning(".");
        all += &formatter.content("");
        all += &formatter.content("Yes");
        all += &formatter.content(".");
        all += &formatter.call("f", "{}");
        all += &formatter.call("g", "{}");
        all += &formatter.end();
        all
    }

    #[test]
    fn a_pipe_gets_no_reasoning() {
        assert_eq!(write(false), "Yes.\ntool call: f {}\ntool call: g {}\n");
    }

    #[test]
    fn reasoning_is_separate_in_a_terminal() {
        assert_eq!(
            write(true),
            "Hm[2J.\n\nYes.\ntool call: f {}\ntool call: g {}\n"
        );
    }

    #[test]
    fn a_line_is_ended_once() {
        let mut formatter = Formatter::new(false);
        assert_eq!(formatter.end(), "");
        assert_eq!(formatter.content("a\n") + &formatter.end(), "a\n");
        assert_eq!(
            formatter.content("b") + &formatter.end() + &formatter.end(),
            "b\n"
        );
    }
}
