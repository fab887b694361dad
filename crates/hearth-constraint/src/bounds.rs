//! Bounds on the cost of a constraint, checked before compilation. All without recursion.

use std::io;

use hearth_proto::Failure;
use serde_json::Value;

use super::error::invalid;

/// Bytes of a schema or grammar as text.
const MAX_BYTES: usize = 256 * 1024;
/// Rules and terminals of a grammar: a chain of them costs the third power of their number.
pub(super) const MAX_RULES: usize = 2000;
/// Levels of JSON in a schema; each nested object takes two.
const MAX_DEPTH: usize = 64;
/// Largest value of `minItems`, `maxLength` and similar keywords: more than any answer
/// holds.
const MAX_COUNT: f64 = 1_000_000.0;
/// The keywords that [`MAX_COUNT`] bounds.
const COUNTS: [&str; 6] = [
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
];

/// Checks the size of a grammar's text.
pub(super) fn text(what: &str, text: &str) -> Result<(), Failure> {
    size(what, text.len())
}

fn size(what: &str, bytes: usize) -> Result<(), Failure> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(invalid(
        what,
        &format!("it has {bytes} bytes, at most {MAX_BYTES} are allowed; make it shorter"),
    ))
}

/// Checks the number of rules of a Lark grammar; each begins a line.
pub(super) fn lark(text: &str) -> Result<(), Failure> {
    let lines = text.lines().count();
    if lines <= MAX_RULES {
        return Ok(());
    }
    Err(invalid(
        "Lark grammar",
        &format!("it has {lines} lines, at most {MAX_RULES} are allowed; make it shorter"),
    ))
}

/// Checks depth, size and counts of a schema.
pub(super) fn schema(schema: &Value) -> Result<(), Failure> {
    let mut walk = Walk::new(schema);
    while let Some((value, node)) = walk.next() {
        if walk.depth(node) > MAX_DEPTH {
            return Err(invalid(
                "JSON schema",
                &format!(
                    "at {:?} it is nested deeper than {MAX_DEPTH} levels; make it flatter",
                    walk.pointer(node)
                ),
            ));
        }
        let Value::Object(map) = value else { continue };
        for key in COUNTS {
            if map
                .get(key)
                .and_then(Value::as_f64)
                .is_some_and(|n| n > MAX_COUNT)
            {
                return Err(invalid(
                    "JSON schema",
                    &format!(
                        "\"{}/{key}\" is more than {MAX_COUNT}, the largest number that is allowed; \
                         use a smaller one or omit it",
                        walk.pointer(node)
                    ),
                ));
            }
        }
    }
    let mut counter = Counter(0);
    // The depth is checked already, so recursion is safe; a counter does not fail.
    let _ = serde_json::to_writer(&mut counter, schema);
    size("JSON schema", counter.0)
}

/// Visits every value, parents first, and tracks its position.
pub(super) struct Walk<'a> {
    open: Vec<(&'a Value, usize)>,
    nodes: Vec<Node<'a>>,
}

struct Node<'a> {
    parent: usize,
    depth: usize,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        Self {
            open: vec![(root, 0)],
            nodes: vec![Node {
                parent: 0,
                depth: 1,
                step: Step::Root,
            }],
        }
    }

    pub(super) fn next(&mut self) -> Option<(&'a Value, usize)> {
        let (value, node) = self.open.pop()?;
        match value {
            Value::Object(map) => {
                for (key, child) in map {
                    self.push(child, node, Step::Key(key));
                }
            }
            Value::Array(list) => {
                for (index, child) in list.iter().enumerate() {
                    self.push(child, node, Step::Index(index));
                }
            }
            _ => {}
        }
        Some((value, node))
    }

    /// Only arrays and objects are visited, so that a long list costs nothing.
    fn push(&mut self, child: &'a Value, parent: usize, step: Step<'a>) {
        if child.is_object() || child.is_array() {
            let depth = self.depth(parent) + 1;
            self.open.push((child, self.nodes.len()));
            self.nodes.push(Node {
                parent,
                depth,
                step,
            });
        }
    }

    fn depth(&self, node: usize) -> usize {
        self.nodes.get(node).map_or(0, |n| n.depth)
    }

    /// The JSON pointer.
    pub(super) fn pointer(&self, mut node: usize) -> String {
        let mut steps = Vec::new();
        while let Some(Node { parent, step, .. }) = self.nodes.get(node) {
            match step {
                Step::Root => break,
                Step::Key(key) => steps.push(escaped(key)),
                Step::Index(index) => steps.push(index.to_string()),
            }
            node = *parent;
        }
        steps
            .iter()
            .rev()
            .fold(String::new(), |path, step| path + "/" + step)
    }
}

/// A key as a step of a JSON pointer.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
