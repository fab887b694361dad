//! Translates right-linear rules to regular expressions.
//!
//! llama.cpp writes "any text up to X" as a chain of rules that call each other at their
//! end, one character at a time. Such rules are a finite automaton: one terminal, which the
//! lexer processes much faster than the parser processes single characters.

use std::collections::BTreeSet;

use super::rules::{Body, Node};

/// Rules of one automaton; larger ones stay as they are.
const MAX_STATES: usize = 256;

/// The most nodes in the expressions of one automaton: where many states reach many others,
/// each replacement multiplies them.
const MAX_NODES: usize = 20_000;

/// The rules that `start` needs, in their order.
pub(super) fn reachable(bodies: &[Body], start: usize) -> BTreeSet<usize> {
    let calls: Vec<Vec<usize>> = bodies.iter().map(called).collect();
    reached(&calls, start).into_iter().collect()
}

/// The rules reachable from a rule, including itself.
fn reached(calls: &[Vec<usize>], start: usize) -> Vec<usize> {
    let mut seen = vec![false; calls.len()];
    let mut open = vec![start];
    let mut found = Vec::new();
    while let Some(id) = open.pop() {
        if let Some(slot) = seen.get_mut(id)
            && !std::mem::replace(slot, true)
        {
            found.push(id);
            open.extend(&calls[id]);
        }
    }
    found
}

/// The rules that a body calls, each once.
fn called(body: &Body) -> Vec<usize> {
    let mut names = BTreeSet::new();
    let mut open: Vec<&Node> = body.iter().flatten().collect();
    while let Some(node) = open.pop() {
        match node {
            Node::Rule(id) => _ = names.insert(*id),
            Node::Group(body) => open.extend(body.iter().flatten()),
            Node::Repeat(node, ..) => open.push(node),
            Node::Text(_) | Node::Control(_) | Node::Class(..) | Node::Any => {}
        }
    }
    names.into_iter().collect()
}

/// Replaces the body of each rule that begins such a chain by one that calls none of it.
pub(super) fn make_regular(bodies: &mut [Body], start: usize) {
    let calls: Vec<Vec<usize>> = bodies.iter().map(called).collect();
    let mut used = reached(&calls, start);
    used.sort_unstable();
    // Which rule reaches which through at least one call.
    let mut reach = vec![Vec::new(); bodies.len()];
    for id in &used {
        let mut seen = vec![false; bodies.len()];
        for next in calls[*id].iter().flat_map(|next| reached(&calls, *next)) {
            seen[next] = true;
        }
        reach[*id] = seen;
    }
    let mut done: BTreeSet<usize> = BTreeSet::new();
    for id in used {
        let reaches = |from: usize, to: usize| reach[from].get(to) == Some(&true);
        // The rules on a cycle with this one.
        let states: BTreeSet<usize> = (0..bodies.len())
            .filter(|other| reaches(id, *other) && reaches(*other, id))
            .collect();
        if states.is_empty() || states.len() > MAX_STATES || done.contains(&id) {
            continue;
        }
        done.extend(&states);
        if let Some(body) = solve(bodies, id, &states) {
            bodies[id] = body;
        }
    }
}

/// A rule as an equation: the prefix before each called rule, and the bodies without a
/// call.
struct Equation {
    calls: Vec<(usize, Body)>,
    ends: Body,
}

/// The body of `entry` with all other states replaced; `None` where a rule is not
/// right-linear.
fn solve(bodies: &[Body], entry: usize, states: &BTreeSet<usize>) -> Option<Body> {
    let mut equations: Vec<(usize, Equation)> = states
        .iter()
        .map(|id| Some((*id, equation(&bodies[*id], states)?)))
        .collect::<Option<_>>()?;
    // The entry stays until the end, and of the others the deepest are replaced first: each
    // then occurs in few places.
    equations.sort_by_key(|(id, _)| if *id == entry { 0 } else { *id + 1 });
    let mut left = MAX_NODES;
    while equations.len() > 1 {
        let (id, gone) = equations.pop()?;
        let gone = without_itself(id, gone);
        for (_, equation) in &mut equations {
            let Some(at) = equation.calls.iter().position(|(to, _)| *to == id) else {
                continue;
            };
            let (_, prefix) = equation.calls.swap_remove(at);
            let nodes = gone
                .calls
                .iter()
                .map(|(_, body)| size(body) + size(&prefix));
            left = left.checked_sub(nodes.sum::<usize>() + size(&prefix) + size(&gone.ends))?;
            for (to, body) in &gone.calls {
                let body = joined(&prefix, body);
                match equation.calls.iter_mut().find(|(other, _)| other == to) {
                    Some((_, known)) => known.extend(body),
                    None => equation.calls.push((*to, body)),
                }
            }
            equation.ends.extend(joined(&prefix, &gone.ends));
        }
    }
    let (id, last) = equations.pop()?;
    let last = without_itself(id, last);
    (last.calls.is_empty() && !last.ends.is_empty()).then_some(last.ends)
}

fn size(body: &Body) -> usize {
    let of = |node: &Node| match node {
        Node::Group(body) => 1 + size(body),
        Node::Repeat(node, ..) => match &**node {
            Node::Group(body) => 2 + size(body),
            _ => 2,
        },
        _ => 1,
    };
    body.iter().flatten().map(of).sum()
}

/// X = a X | b is X = a* b.
fn without_itself(id: usize, mut equation: Equation) -> Equation {
    let Some(at) = equation.calls.iter().position(|(to, _)| *to == id) else {
        return equation;
    };
    let (_, again) = equation.calls.swap_remove(at);
    let again: Body = vec![vec![Node::Repeat(Box::new(Node::Group(again)), 0, None)]];
    for (_, body) in &mut equation.calls {
        *body = joined(&again, body);
    }
    equation.ends = joined(&again, &equation.ends);
    equation
}

fn joined(first: &Body, second: &Body) -> Body {
    if second.is_empty() {
        return Vec::new();
    }
    let mut sequence = grouped(first);
    sequence.extend(grouped(second));
    vec![sequence]
}

fn grouped(body: &Body) -> Vec<Node> {
    match body.as_slice() {
        [only] => only.clone(),
        _ => vec![Node::Group(body.clone())],
    }
}

fn equation(body: &Body, states: &BTreeSet<usize>) -> Option<Equation> {
    let mut equation = Equation {
        calls: Vec::new(),
        ends: Vec::new(),
    };
    for sequence in body {
        let (prefix, to) = match sequence.split_last() {
            Some((Node::Rule(id), prefix)) if states.contains(id) => (prefix, Some(*id)),
            _ => (sequence.as_slice(), None),
        };
        let is_plain = |node: &Node| matches!(node, Node::Text(_) | Node::Class(..) | Node::Any);
        if !prefix.iter().all(is_plain) {
            return None;
        }
        let prefix = prefix.to_vec();
        match to {
            None => equation.ends.push(prefix),
            Some(to) => match equation.calls.iter_mut().find(|(other, _)| *other == to) {
                Some((_, known)) => known.push(prefix),
                None => equation.calls.push((to, vec![prefix])),
            },
        }
    }
    Some(equation)
}
