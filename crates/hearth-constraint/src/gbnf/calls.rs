//! Adapts the chat layer's grammar of tool calls for forcing calls.

use std::collections::BTreeMap;

use llguidance::toktrie::TokenId;

use super::rules::{Body, Node};

/// The rule that matches only calls: the chat layer gives it one of these names in all
/// families.
pub(super) fn start(names: &BTreeMap<String, usize>, one_call: bool) -> Option<usize> {
    let order = if one_call {
        ["tool-call", "tool-call-root", "tool-calls"]
    } else {
        ["tool-calls", "tool-call-root", "tool-call"]
    };
    order.iter().find_map(|name| names.get(*name).copied())
}

/// Fixes the whitespace of JSON to that of all templates, `{"a": 1, "b": 2}`: the model was
/// trained on it, and with fewer choices more tokens are forced without a decode.
pub(super) fn make_compact(body: &mut Body, space: Option<usize>) {
    let Some(space) = space else { return };
    for sequence in body {
        for at in 0..sequence.len() {
            if let Some(fixed) = fixed_space(sequence, at, space) {
                sequence[at] = Node::Text(fixed.to_owned());
            }
        }
        for node in sequence {
            match node {
                Node::Group(body) => make_compact(body, Some(space)),
                Node::Repeat(node, ..) => {
                    if let Node::Group(body) = &mut **node {
                        make_compact(body, Some(space));
                    }
                }
                _ => {}
            }
        }
    }
}

/// The text that replaces the optional whitespace here, if JSON punctuation is next to it.
fn fixed_space(sequence: &[Node], at: usize, space: usize) -> Option<&'static str> {
    if !matches!(sequence.get(at), Some(Node::Rule(id)) if *id == space) {
        return None;
    }
    let text = |at: usize| match sequence.get(at) {
        Some(Node::Text(text)) => text.as_str(),
        _ => "",
    };
    let before = at.checked_sub(1).map_or("", text);
    let behind = text(at + 1);
    if before.ends_with([':', ',']) {
        Some(" ")
    } else if before.ends_with(['{', '[']) || behind.starts_with([':', ',', '}', ']']) {
        Some("")
    } else {
        None
    }
}

/// Removes texts that are only a mark, with the whitespace around it.
pub(super) fn leave_out(body: &mut Body, marks: &[String]) {
    for sequence in body {
        for node in sequence.iter_mut() {
            match node {
                Node::Text(text) if marks.iter().any(|mark| mark == text.trim()) => text.clear(),
                Node::Group(body) => leave_out(body, marks),
                Node::Repeat(node, ..) => {
                    if let Node::Group(body) = &mut **node {
                        leave_out(body, marks);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Replaces the names of control tokens in texts by the tokens.
pub(super) fn split_controls(body: &mut Body, controls: &[(String, TokenId)]) {
    for sequence in body {
        let nodes = std::mem::take(sequence);
        for node in nodes {
            match node {
                Node::Text(text) => split(&text, controls, sequence),
                Node::Group(mut body) => {
                    split_controls(&mut body, controls);
                    sequence.push(Node::Group(body));
                }
                Node::Repeat(inner, min, max) => {
                    let mut body = vec![vec![*inner]];
                    split_controls(&mut body, controls);
                    let inner = match body.pop().filter(|_| body.is_empty()) {
                        Some(mut one) if one.len() == 1 => one.remove(0),
                        Some(several) => Node::Group(vec![several]),
                        None => continue,
                    };
                    sequence.push(Node::Repeat(Box::new(inner), min, max));
                }
                other => sequence.push(other),
            }
        }
    }
}

fn split(text: &str, controls: &[(String, TokenId)], out: &mut Vec<Node>) {
    let first = controls
        .iter()
        .filter_map(|(name, id)| Some((text.find(name.as_str())?, name, *id)))
        .min_by_key(|(at, name, _)| (*at, std::cmp::Reverse(name.len())));
    let Some((at, name, id)) = first else {
        if !text.is_empty() || out.is_empty() {
            out.push(Node::Text(text.to_owned()));
        }
        return;
    };
    let (before, rest) = text.split_at(at);
    if !before.is_empty() {
        out.push(Node::Text(before.to_owned()));
    }
    out.push(Node::Control(id));
    if rest.len() > name.len() {
        split(&rest[name.len()..], controls, out);
    }
}
