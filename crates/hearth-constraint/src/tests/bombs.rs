//! Input designed to be expensive: refused early, or harmless; never a crash.

use std::fmt::Write as _;

use hearth_proto::{Constraint, FailureKind, GenerateRequest};
use serde_json::{Value, json};

use super::vocabulary;
use crate::{Matcher, Tokenize, Vocabulary, check};

/// Nested objects, built and dropped without recursion.
fn nested(depth: usize) -> Value {
    let mut value = json!({"type": "object"});
    for _ in 0..depth {
        for key in ["a", "properties"] {
            value = Value::Object([(key.to_owned(), value)].into_iter().collect());
        }
    }
    value
}

fn dismantle(value: Value) {
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => open.extend(map.into_iter().map(|(_, v)| v)),
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
}

#[test]
fn depth_is_bounded_without_recursion() {
    let (vocabulary, _) = vocabulary(true);
    let constraint = Constraint::JsonSchema(nested(20_000));
    let error = Matcher::new(&vocabulary, &constraint).unwrap_err();
    assert_eq!(error.kind, FailureKind::InvalidSchema);
    assert!(error.message.contains("64 levels"), "{error}");
    if let Constraint::JsonSchema(value) = constraint {
        dismantle(value);
    }
    Matcher::new(&vocabulary, &Constraint::JsonSchema(nested(31))).unwrap();
}

/// A name, the input, and whether it must be refused (else either result is accepted).
type Bomb<T> = (&'static str, T, bool);

/// A table of schemas; longer than a screen: one row for each.
fn schemas() -> Vec<Bomb<Value>> {
    let only = |name: String| json!({"properties": {&name: {"type": "null"}}, "required": [name]});
    let options: Vec<Value> = (0..30)
        .map(|n| json!({"anyOf": [only(format!("a{n}")), only(format!("b{n}"))]}))
        .collect();
    let wide: Vec<String> = (0..60_000).map(|n| format!("value number {n}")).collect();
    let names: Vec<String> = (0..14_000).map(|n| format!("n{n:05}")).collect();
    let alternatives: Vec<Value> = (0..5_000)
        .map(|n| json!({"required": [format!("n{n}")]}))
        .collect();
    let to = |n: usize| json!({"$ref": format!("#/$defs/d{n}")});
    let chain: Value = (0..6_000)
        .map(|n| (format!("d{n}"), json!({"items": to(n + 1)})))
        .chain([("d6000".to_owned(), json!({"type": "null"}))])
        .collect();
    let wheel: Value = (0..200)
        .map(|n| {
            let all: Vec<Value> = (1..7).map(|k| to((n + k) % 200)).collect();
            (format!("d{n}"), json!({"allOf": all, "type": "object"}))
        })
        .collect();
    let ring = json!({"d0": to(1), "d1": to(0)});
    let under = |defs: Value| json!({"$ref": "#/$defs/d0", "$defs": defs});
    let million = 1_000_000;
    vec![
        (
            "exponential allOf of anyOf",
            json!({"type": "object", "allOf": options}),
            true,
        ),
        ("1 MB of enum", json!({"enum": wide}), true),
        (
            "alternatives times names",
            json!({"required": names, "anyOf": alternatives}),
            true,
        ),
        ("a chain of references", under(chain), false),
        ("references all over each other", under(wheel), false),
        ("references in a ring", under(ring), false),
        ("a reference to itself", json!({"$ref": "#"}), false),
        (
            "a long list",
            json!({"type": "array", "minItems": million, "maxItems": million}),
            false,
        ),
        (
            "a long string",
            json!({"pattern": "^(ab|c)*$", "minLength": million}),
            false,
        ),
        (
            "a deep multiple",
            json!({"type": "integer", "multipleOf": 999_999_937}),
            false,
        ),
        (
            "patterns that fight",
            json!({"allOf": [{"pattern": "(a|b)*a(a|b){40}"}, {"pattern": "(a|b)*b(a|b){37}"}]}),
            false,
        ),
    ]
}

/// `first`, then `link` of each number and the next, then `last`.
fn links(count: usize, first: &str, link: fn(usize, usize) -> String, last: &str) -> String {
    let links: String = (0..count).map(|n| link(n, n + 1)).collect();
    format!("{first}\n{links}{last}\n")
}

/// A table of grammars and expressions; longer than a screen: one row for each.
fn texts() -> Vec<Bomb<Constraint>> {
    let regex = |s: &str| Constraint::Regex(s.to_owned());
    let rules = |n: usize| {
        let link = |a, b| format!("a{a}: a{b}\n");
        Constraint::Lark(links(n, "start: a0", link, &format!("a{n}: \"x\"")))
    };
    let tokens = |n: usize| {
        let link = |a, b| format!("A{a}: A{b} | \"y\" A{b}\n");
        Constraint::Lark(links(n, "start: A0", link, &format!("A{n}: \"x\"")))
    };
    let doubles = |n: usize| {
        let link = |a, b| format!("a{a} ::= a{b} a{b}\n");
        Constraint::Gbnf(links(n, "root ::= a0", link, &format!("a{n} ::= [a-z]*")))
    };
    let lark =
        |first: &str, more: &str, times| Constraint::Lark(first.to_owned() + &more.repeat(times));
    let gbnf =
        |first: &str, more: &str, times| Constraint::Gbnf(first.to_owned() + &more.repeat(times));
    vec![
        ("repetition of repetition", regex("(a{1000}){1000}"), false),
        ("and once more", regex("((a{1000}){1000}){1000}"), false),
        (
            "repetition with choice",
            regex("((a|b)*a(a|b){500})*c"),
            false,
        ),
        (
            "a deep expression",
            regex(&("(".repeat(50_000) + &")".repeat(50_000))),
            true,
        ),
        ("a long class", regex(r"[\w\s\d]{1,100000}"), false),
        (
            "a large grammar",
            lark("start: \"x\"\n", "#", 300_000),
            true,
        ),
        ("a deep grammar", lark("start: ", "(", 100_000), true),
        ("rules in a chain", rules(1_990), false),
        ("too many rules", rules(18_000), true),
        ("terminals in a chain", tokens(1_990), true),
        ("too many terminals", tokens(8_000), true),
        (
            "deep JSON in a grammar",
            lark("start: %json ", "{\"items\":", 20_000),
            true,
        ),
        (
            "ambiguity",
            lark("start: s\ns: s s | s s s | \"a\"", "", 0),
            false,
        ),
        ("exponential rules of llama.cpp", doubles(60), false),
        ("too many of them", doubles(5_000), true),
        (
            "too many groups",
            gbnf("root ::= \"b\"", " (\"a\" root)", 3_000),
            true,
        ),
        ("deep groups", gbnf("root ::= ", "(", 100_000), true),
        ("a rule of itself", gbnf("root ::= root", "", 0), false),
        (
            "left recursion",
            gbnf("root ::= root root | \"a\"", "", 0),
            false,
        ),
    ]
}

fn bombs() -> impl Iterator<Item = Bomb<Constraint>> {
    let schemas = schemas().into_iter();
    let schemas = schemas.map(|(what, schema, no)| (what, Constraint::JsonSchema(schema), no));
    schemas.chain(texts())
}

#[test]
fn hostile_grammars_end_without_a_crash() {
    let (vocabulary, pieces) = vocabulary(true);
    for (what, constraint, refused) in bombs() {
        match Matcher::new(&vocabulary, &constraint) {
            Err(error) => {
                assert_eq!(error.kind, FailureKind::InvalidSchema, "{what}: {error}");
                assert!(!error.message.contains("panic"), "{what}: {error}");
                assert!(error.message.len() < 600, "{what}: {error}");
            }
            Ok(mut matcher) => {
                assert!(!refused, "{what} was taken");
                // A refusal in the middle is allowed, a crash is not.
                for token in 0..50 {
                    let mut logits = vec![0.0; pieces.len()];
                    if matcher.mask(&mut logits).is_err() {
                        break;
                    }
                    let allowed: Vec<i32> = (0..)
                        .zip(&logits)
                        .filter(|(_, l)| l.is_finite())
                        .map(|(id, _)| id)
                        .collect();
                    let Some(next) = allowed.get(token % allowed.len().max(1)) else {
                        break;
                    };
                    if matcher.is_complete() || matcher.accept(*next).is_err() {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn unusual_vocabularies_are_refused_or_handled() {
    let none: Tokenize = std::sync::Arc::new(|_| vec![-1, 99_999]);
    let bytes = || (0..=255).map(|b| vec![b]).collect::<Vec<_>>();
    for (pieces, ends) in [
        (vec![], vec![0]),
        (bytes(), vec![]),
        (bytes(), vec![256, -1]),
    ] {
        let error = Vocabulary::new(pieces, &[], &ends, none.clone()).unwrap_err();
        assert_eq!(error.kind, FailureKind::ModelInvalid);
    }
    // Empty, huge and duplicate pieces, and a tokenizer that returns nothing usable.
    let mut pieces = bytes();
    pieces.extend([vec![], vec![b' '; 5000], b"a".to_vec(), b"</s>".to_vec()]);
    let vocabulary = Vocabulary::new(pieces.clone(), &[], &[259], none).unwrap();
    let schema = json!({"const": {"abc": [1, 2, 3]}});
    let mut matcher = Matcher::new(&vocabulary, &Constraint::JsonSchema(schema.clone())).unwrap();
    let mut text = Vec::new();
    while !matcher.is_complete() {
        let mut next = matcher.forced();
        if next.is_empty() {
            let mut logits = vec![0.0; pieces.len()];
            matcher.mask(&mut logits).unwrap();
            next = (0..)
                .zip(&logits)
                .filter(|(_, l)| l.is_finite())
                .map(|(id, _)| id)
                .take(1)
                .collect();
        }
        for token in next {
            matcher.accept(token).unwrap();
            text.extend_from_slice(&pieces[usize::try_from(token).unwrap()]);
        }
    }
    assert_eq!(
        serde_json::from_slice::<Value>(&text).unwrap(),
        schema["const"]
    );
}

#[test]
fn a_constraint_that_a_vocabulary_cannot_spell_is_refused() {
    let tokenize: Tokenize = std::sync::Arc::new(|_| vec![]);
    let vocabulary =
        Vocabulary::new(vec![b"a".to_vec(), b"end".to_vec()], &[], &[1], tokenize).unwrap();
    let mut matcher = Matcher::new(&vocabulary, &Constraint::JsonObject).unwrap();
    let error = matcher.mask(&mut [0.0; 2]).unwrap_err();
    assert_eq!(error.kind, FailureKind::InvalidSchema);
    let mut possible = Matcher::new(&vocabulary, &Constraint::Regex("a*".into())).unwrap();
    let mut logits = [0.0; 2];
    possible.mask(&mut logits).unwrap();
    assert!(logits.iter().all(|l| l.is_finite()));
}

/// Rules that all end in each other, and rules that call each other hundreds of times.
#[test]
fn chains_of_rules_cost_no_more_than_their_text() {
    let (mut dense, mut many) = (String::new(), String::new());
    for rule in 0..40 {
        _ = write!(dense, "r{rule} ::= ");
        for next in 0..40 {
            _ = write!(dense, "\"{rule}x{next}\" r{next} | ");
        }
        dense.push_str("\"z\"\n");
    }
    for rule in 0..90 {
        let calls = "r1 r2 r3 r4 ".repeat(120);
        _ = writeln!(many, "r{rule} ::= {calls}\"z\"");
    }
    for rules in [dense, many] {
        let request = GenerateRequest {
            constraint: Some(Constraint::Gbnf(format!("root ::= r0\n{rules}"))),
            ..GenerateRequest::default()
        };
        // Either result is accepted, as long as it returns.
        _ = check(&request);
    }
}
