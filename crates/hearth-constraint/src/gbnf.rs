//! Translates llama.cpp's grammars (GBNF) to llguidance's Lark.
//!
//! GBNF matches characters, Lark matches lexemes greedily. Every part without recursion
//! therefore becomes one terminal, where the meaning is exactly the same. Only where such a
//! part is directly before a recursive one, and the latter may begin with what the former
//! may continue with, fewer texts are possible than in llama.cpp; never others.

mod calls;
mod linear;
mod parser;

use std::collections::BTreeMap;
use std::fmt::Write;

use llguidance::toktrie::TokenId;
use serde_json::Value;

use self::parser::Parser;
use super::bounds::MAX_RULES;

/// The same grammar in Lark; or the error, with its line.
pub(super) fn to_lark(text: &str) -> Result<String, String> {
    let rules = Parser::new(text).rules()?;
    let Some(root) = rules.names.get("root").copied() else {
        return Err("it has no rule `root`; add `root ::= …`".to_owned());
    };
    write(rules.bodies, root)
}

/// The tool calls of the chat layer's grammar, without the text that may precede them, in
/// Lark. `controls` are the control tokens that may occur, with their texts; `marks` are
/// texts that are left out.
pub(super) fn calls_to_lark(
    text: &str,
    one_call: bool,
    controls: &[(String, TokenId)],
    marks: &[String],
) -> Result<String, String> {
    let rules = Parser::new(text).rules()?;
    let start = calls::start(&rules.names, one_call)
        .ok_or("the chat layer's grammar has no rule for tool calls")?;
    let space = rules.names.get("space").copied();
    let mut bodies = rules.bodies;
    for body in &mut bodies {
        calls::make_compact(body, space);
        calls::leave_out(body, marks);
        calls::split_controls(body, controls);
    }
    write(bodies, start)
}

fn write(mut bodies: Vec<Body>, start: usize) -> Result<String, String> {
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

/// Alternatives of sequences.
type Body = Vec<Vec<Node>>;

#[derive(Clone)]
enum Node {
    Text(String),
    /// A control token, which is not text of the answer.
    Control(TokenId),
    Class(bool, Vec<(char, char)>),
    Any,
    Rule(usize),
    Group(Body),
    Repeat(Box<Node>, u32, Option<u32>),
}

#[derive(Default)]
struct Rules {
    names: BTreeMap<String, usize>,
    bodies: Vec<Body>,
}

impl Rules {
    fn id(&mut self, name: String) -> usize {
        let next = self.bodies.len();
        let id = *self.names.entry(name).or_insert(next);
        if id == next {
            self.bodies.push(Vec::new());
        }
        id
    }
}

/// Which rules cannot reach themselves, nor a rule that can.
fn regular(bodies: &[Body]) -> Vec<bool> {
    let mut regular = vec![false; bodies.len()];
    loop {
        let before = regular.clone();
        for (id, body) in bodies.iter().enumerate() {
            let known = |rule: usize| regular.get(rule) == Some(&true);
            let is = body.iter().flatten().all(|node| node.is_regular(&known));
            if let Some(slot) = regular.get_mut(id) {
                *slot = is;
            }
        }
        if regular == before {
            return regular;
        }
    }
}

impl Node {
    fn is_regular(&self, known: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::Text(_) | Self::Class(..) | Self::Any => true,
            Self::Control(_) => false,
            Self::Rule(id) => known(*id),
            Self::Group(body) => body.iter().flatten().all(|node| node.is_regular(known)),
            Self::Repeat(node, ..) => node.is_regular(known),
        }
    }
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
