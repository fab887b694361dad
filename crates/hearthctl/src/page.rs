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
pub struct Page {
    /// Whether the output is a terminal.
    person: bool,
    last: Option<Kind>,
    /// Whether the last line is incomplete.
    open: bool,
}

impl Page {
    /// An empty page.
    pub fn new(person: bool) -> Self {
        Self {
            person,
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
        if self.person {
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
        let text = if self.person {
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

    fn write(person: bool) -> String {
        let mut page = Page::new(person);
        let mut all = page.reasoning("Hm\x1b[2J");
        all += &page.reasoning(".");
        all += &page.content("");
        all += &page.content("Yes");
        all += &page.content(".");
        all += &page.call("f", "{}");
        all += &page.call("g", "{}");
        all += &page.end();
        all
    }

    #[test]
    fn a_pipe_gets_no_reasoning() {
        assert_eq!(write(false), "Yes.\ntool call: f {}\ntool call: g {}\n");
    }

    #[test]
    fn reasoning_is_set_off_for_a_person() {
        assert_eq!(
            write(true),
            "Hm[2J.\n\nYes.\ntool call: f {}\ntool call: g {}\n"
        );
    }

    #[test]
    fn a_line_is_ended_once() {
        let mut page = Page::new(false);
        assert_eq!(page.end(), "");
        assert_eq!(page.content("a\n") + &page.end(), "a\n");
        assert_eq!(page.content("b") + &page.end() + &page.end(), "b\n");
    }
}
