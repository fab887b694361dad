//! Writes rules as a Lark grammar.

use std::fmt::Write as _;

use serde_json::Value;

use super::linear;
use super::rules::{Body, Node, regular};
use crate::bounds::MAX_RULES;

/// The grammar with this rule as its start; or why it is refused.
pub(super) fn write(mut bodies: Vec<Body>, start: usize) -> Result<String, String> {
    linear::make_regular(&mut bodies, start);
    let mut writer = Writer {
        regular: regular(&bodies),
        lark: String::new(),
        parts: bodies.len(),
    };
    _ = writeln!(writer.lark, "start: {}", writer.name(start));
    for id in linear::reachable(&bodies, start) {
        if let Some(body) = bodies.get(id) {
            writer.rule(&writer.name(id), body, writer.is_regular(id));
        }
    }
    if writer.parts > MAX_RULES {
        return Err(format!(
            "its rules and groups are {}, at most {MAX_RULES} are allowed",
            writer.parts
        ));
    }
    Ok(writer.lark)
}

struct Writer {
    regular: Vec<bool>,
    lark: String,
    /// Names given so far.
    parts: usize,
}

impl Writer {
    fn is_regular(&self, id: usize) -> bool {
        self.regular.get(id) == Some(&true)
    }

    /// Names of terminals are in upper case.
    fn name(&self, id: usize) -> String {
        if self.is_regular(id) {
            format!("T{id}")
        } else {
            format!("r{id}")
        }
    }

    fn rule(&mut self, name: &str, body: &Body, terminal: bool) {
        let options: Vec<String> = body
            .iter()
            .map(|sequence| self.sequence(sequence, terminal))
            .collect();
        _ = writeln!(self.lark, "{name}: {}", options.join(" | "));
    }

    fn sequence(&mut self, nodes: &[Node], terminal: bool) -> String {
        let mut parts = Vec::new();
        let mut rest = nodes;
        while let Some((first, behind)) = rest.split_first() {
            let run = rest
                .iter()
                .take_while(|node| !terminal && node.is_regular(&|id| self.is_regular(id)))
                .count();
            if run > 1 {
                let (run, behind) = rest.split_at(run);
                let sequence = self.sequence(run, true);
                parts.push(self.part(&sequence, true));
                rest = behind;
            } else {
                parts.push(self.node(first));
                rest = behind;
            }
        }
        if parts.is_empty() {
            parts.push(quoted(""));
        }
        parts.join(" ")
    }

    /// A separate rule or terminal, so that nothing nests.
    fn part(&mut self, body: &str, terminal: bool) -> String {
        let name = format!("{}{}", if terminal { 'T' } else { 'r' }, self.parts);
        self.parts += 1;
        _ = writeln!(self.lark, "{name}: {body}");
        name
    }

    fn node(&mut self, node: &Node) -> String {
        match node {
            Node::Text(text) => quoted(text),
            Node::Control(id) => format!("<[{id}]>"),
            Node::Any => "/(?s:.)/".to_owned(),
            Node::Rule(id) => self.name(*id),
            Node::Class(not, ranges) => {
                let mut class = String::from(if *not { "/[^" } else { "/[" });
                for (from, to) in ranges {
                    _ = write!(
                        class,
                        "\\u{{{:x}}}-\\u{{{:x}}}",
                        u32::from(*from),
                        u32::from(*to)
                    );
                }
                class + "]/"
            }
            Node::Group(body) => {
                let terminal = node.is_regular(&|id| self.is_regular(id));
                let options: Vec<String> = body
                    .iter()
                    .map(|sequence| self.sequence(sequence, terminal))
                    .collect();
                self.part(&options.join(" | "), terminal)
            }
            Node::Repeat(inner, min, max) => {
                if *max == Some(0) {
                    return quoted("");
                }
                let atom = self.node(inner);
                match (min, max) {
                    (0, None) => atom + "*",
                    (1, None) => atom + "+",
                    (0, Some(1)) => atom + "?",
                    (min, None) => format!("{atom}{{{min},}}"),
                    (min, Some(max)) => format!("{atom}{{{min},{max}}}"),
                }
            }
        }
    }
}

/// A Lark string: as in JSON, except for one character.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
