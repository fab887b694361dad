//! Parser of GBNF's syntax.

use std::iter::Peekable;
use std::str::Chars;

use super::rules::{Body, Node, Rules};
use crate::bounds::MAX_RULES;

/// Largest depth of nested groups.
const MAX_NESTING: usize = 64;
/// Largest number in `{m,n}`.
const MAX_REPEAT: u32 = 1_000_000;

/// Parses the text of a grammar.
pub(super) struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
    rules: Rules,
    defined: Vec<bool>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            chars: text.chars().peekable(),
            line: 1,
            rules: Rules::default(),
            defined: Vec::new(),
        }
    }

    /// All rules, or the error with its line.
    pub(super) fn rules(mut self) -> Result<Rules, String> {
        self.space(true);
        while self.chars.peek().is_some() {
            let name = self.word();
            if name.is_empty() {
                return Err(self.wrong("a rule's name is missing"));
            }
            self.space(false);
            for c in "::=".chars() {
                if !self.take(c) {
                    return Err(self.wrong(&format!("`::=` is missing after {name:?}")));
                }
            }
            self.space(true);
            let body = self.body(0)?;
            let id = self.rules.id(name);
            if id >= MAX_RULES {
                return Err(self.wrong(&format!("more than {MAX_RULES} rules")));
            }
            self.defined.resize(self.rules.bodies.len(), false);
            if let (Some(slot), Some(defined)) =
                (self.rules.bodies.get_mut(id), self.defined.get_mut(id))
            {
                *slot = body;
                *defined = true;
            }
            if !matches!(self.chars.peek(), None | Some('\n' | '\r')) {
                return Err(self.wrong("something stands behind the rule; begin a new line"));
            }
            self.space(true);
        }
        let missing = self
            .rules
            .names
            .iter()
            .find(|(_, id)| self.defined.get(**id) != Some(&true));
        match missing {
            Some((name, _)) => Err(format!("the rule {name:?} is used, but not defined")),
            None => Ok(self.rules),
        }
    }

    fn body(&mut self, depth: usize) -> Result<Body, String> {
        if depth > MAX_NESTING {
            return Err(self.wrong(&format!("groups nest deeper than {MAX_NESTING}")));
        }
        let mut body = vec![self.sequence(depth)?];
        while self.take('|') {
            self.space(true);
            body.push(self.sequence(depth)?);
        }
        Ok(body)
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        while let Some(&c) = self.chars.peek() {
            let node = match c {
                '"' => Node::Text(self.literal()?),
                '[' => self.class()?,
                '(' => {
                    self.chars.next();
                    self.space(true);
                    let body = self.body(depth + 1)?;
                    if !self.take(')') {
                        return Err(self.wrong("`)` is missing"));
                    }
                    Node::Group(body)
                }
                '.' => {
                    self.chars.next();
                    Node::Any
                }
                '*' | '+' | '?' | '{' => match nodes.pop() {
                    Some(Node::Repeat(..)) => {
                        return Err(self.wrong(&format!("put what `{c}` repeats into `()`")));
                    }
                    Some(node) => self.repeat(node)?,
                    None => return Err(self.wrong(&format!("nothing stands before `{c}`"))),
                },
                '<' | '!' => {
                    return Err(self.wrong("tokens (`<…>`) are not supported, write their text"));
                }
                c if is_word(c) => {
                    let name = self.word();
                    Node::Rule(self.rules.id(name))
                }
                _ => break,
            };
            nodes.push(node);
            // A rule continues on the next line only within parentheses.
            self.space(depth > 0);
        }
        Ok(nodes)
    }

    fn repeat(&mut self, node: Node) -> Result<Node, String> {
        let (min, max) = match self.chars.next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => {
                self.space(false);
                let min = self.number()?;
                self.space(false);
                let max = if self.take(',') {
                    self.space(false);
                    match self.chars.peek() {
                        Some('}') => None,
                        _ => Some(self.number()?),
                    }
                } else {
                    Some(min)
                };
                self.space(false);
                if !self.take('}') {
                    return Err(self.wrong("`}` is missing"));
                }
                (min, max)
            }
        };
        if max.is_some_and(|max| max < min) {
            return Err(self.wrong("of `{m,n}`, n must not be less than m"));
        }
        Ok(Node::Repeat(Box::new(node), min, max))
    }

    fn number(&mut self) -> Result<u32, String> {
        let mut number = None;
        while let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(10)) {
            self.chars.next();
            number = Some(
                number
                    .unwrap_or(0_u32)
                    .saturating_mul(10)
                    .saturating_add(digit),
            );
        }
        match number {
            Some(number) if number <= MAX_REPEAT => Ok(number),
            Some(_) => Err(self.wrong(&format!("at most {MAX_REPEAT} repetitions are allowed"))),
            None => Err(self.wrong("a number is missing")),
        }
    }

    fn literal(&mut self) -> Result<String, String> {
        self.chars.next();
        let mut text = String::new();
        loop {
            match self.chars.peek() {
                Some('"') => break,
                None | Some('\n') => return Err(self.wrong("a text is not closed with `\"`")),
                Some(_) => text.push(self.character()?),
            }
        }
        self.chars.next();
        Ok(text)
    }

    fn class(&mut self) -> Result<Node, String> {
        self.chars.next();
        let not = self.take('^');
        let mut ranges = Vec::new();
        loop {
            match self.chars.peek() {
                Some(']') => break,
                None | Some('\n') => return Err(self.wrong("`[` is not closed with `]`")),
                Some(_) => {}
            }
            let from = self.character()?;
            let mut ahead = self.chars.clone();
            let is_range = ahead.next() == Some('-') && !matches!(ahead.next(), None | Some(']'));
            let to = if is_range {
                self.chars.next();
                self.character()?
            } else {
                from
            };
            if to < from {
                return Err(self.wrong(&format!("the range {from:?}-{to:?} runs backwards")));
            }
            ranges.push((from, to));
        }
        self.chars.next();
        if ranges.is_empty() {
            return Err(self.wrong("`[]` allows no character"));
        }
        Ok(Node::Class(not, ranges))
    }

    /// One character, perhaps escaped.
    fn character(&mut self) -> Result<char, String> {
        match self.chars.next() {
            Some('\\') => {}
            Some(c) => return Ok(c),
            None => return Err(self.wrong("the grammar ends too early")),
        }
        let digits = match self.chars.next() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '/' | '^')) => return Ok(c),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(self.wrong(&format!("`\\{other}` is no escape")));
            }
        };
        let mut code = 0_u32;
        for _ in 0..digits {
            match self.chars.next().and_then(|c| c.to_digit(16)) {
                Some(digit) => code = code << 4 | digit,
                None => return Err(self.wrong("an escape has too few digits")),
            }
        }
        char::from_u32(code).ok_or_else(|| self.wrong("an escape is no character"))
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.chars.next_if(|c| is_word(*c)) {
            word.push(c);
        }
        word
    }

    fn take(&mut self, c: char) -> bool {
        self.chars.next_if_eq(&c).is_some()
    }

    /// Skips blanks and comments, and line ends if `lines`.
    fn space(&mut self, lines: bool) {
        while let Some(&c) = self.chars.peek() {
            match c {
                ' ' | '\t' => {}
                '\n' | '\r' if lines => self.line += usize::from(c == '\n'),
                '#' => {
                    while self.chars.next_if(|c| *c != '\n').is_some() {}
                    continue;
                }
                _ => return,
            }
            self.chars.next();
        }
    }

    fn wrong(&self, what: &str) -> String {
        format!("in line {}: {what}", self.line)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}
