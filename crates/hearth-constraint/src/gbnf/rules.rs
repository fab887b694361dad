//! The rules of a GBNF grammar.

use std::collections::BTreeMap;

use llguidance::toktrie::TokenId;

/// Alternatives of sequences.
pub(super) type Body = Vec<Vec<Node>>;

#[derive(Clone)]
pub(super) enum Node {
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
pub(super) struct Rules {
    pub(super) names: BTreeMap<String, usize>,
    pub(super) bodies: Vec<Body>,
}

impl Rules {
    pub(super) fn id(&mut self, name: String) -> usize {
        let next = self.bodies.len();
        let id = *self.names.entry(name).or_insert(next);
        if id == next {
            self.bodies.push(Vec::new());
        }
        id
    }
}

/// Which rules cannot reach themselves, nor a rule that can.
pub(super) fn regular(bodies: &[Body]) -> Vec<bool> {
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
    pub(super) fn is_regular(&self, known: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::Text(_) | Self::Class(..) | Self::Any => true,
            Self::Control(_) => false,
            Self::Rule(id) => known(*id),
            Self::Group(body) => body.iter().flatten().all(|node| node.is_regular(known)),
            Self::Repeat(node, ..) => node.is_regular(known),
        }
    }
}
