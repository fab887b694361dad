//! Regular expressions, Lark and GBNF.

use hearth_proto::{Constraint, FailureKind};
use serde_json::Value;

use super::{fits, lossy, run, vocabulary};
use crate::Matcher;

/// The shape of llama.cpp's grammar for JSON.
const JSON_GBNF: &str = r#"
# JSON
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,1})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;

/// A constraint, texts that match it, and texts that do not.
type Case = (Constraint, &'static [&'static str], &'static [&'static str]);

fn assert_cases(cases: &[Case]) {
    let (vocabulary, pieces) = vocabulary(true);
    for (constraint, accepted, rejected) in cases {
        let matcher = Matcher::new(&vocabulary, constraint).unwrap();
        for text in *accepted {
            assert_eq!(
                fits(&mut matcher.clone(), &pieces, text),
                (true, true),
                "{constraint:?} {text:?}"
            );
        }
        for text in *rejected {
            assert!(
                !fits(&mut matcher.clone(), &pieces, text).1,
                "{constraint:?} {text:?}"
            );
        }
    }
}

#[test]
fn regex_and_lark_grammars_accept_and_reject() {
    let regex = |s: &str| Constraint::Regex(s.to_owned());
    let lark = |s: &str| Constraint::Lark(s.to_owned());
    assert_cases(&[
        (regex("[a-c]+\\d{2}"), &["abc12"], &["abc1", "x", "ab123"]),
        (
            regex("^(yes|no)$"),
            &["yes", "no"],
            &["ye", "maybe", "^yes"],
        ),
        (regex("a/b\n\\$"), &["a/b\n$"], &["a/b"]),
        (regex("\\$"), &["$"], &["\\$"]),
        (
            lark("start: A+ \"!\"\nA: \"ab\" | \"c\""),
            &["abcab!", "c!"],
            &["ab", "!"],
        ),
    ]);
}

#[test]
fn gbnf_grammars_accept_and_reject() {
    let gbnf = |s: &str| Constraint::Gbnf(s.to_owned());
    assert_cases(&[
        (
            gbnf("root ::= \"yes\" | \"no\""),
            &["yes", "no"],
            &["y", "yesno"],
        ),
        (gbnf("root ::= [a-z]* \"x\""), &["x", "abxx"], &["ab", "X"]),
        (
            gbnf("root ::= [^a-c\\n\\]]+"),
            &["dé[", "x"],
            &["a", "\n", "]"],
        ),
        (
            gbnf("root ::= \"\\x41\\u00e9\\U0001F600\\t\\\"\\\\\""),
            &["Aé😀\t\"\\"],
            &["A"],
        ),
        (
            gbnf("root ::= [-+]? [0-9]{2,3} \"a\"{2} \"b\"{1,} \"c\"{0,1} \"d\"{0}"),
            &["12aab", "+123aabbc"],
            &["1aab", "12ab", "12aabd"],
        ),
        (gbnf("root ::= . . # two\n"), &["é\n", "ab"], &["a", "abc"]),
        (gbnf("root ::= (\"a\" |\n \"b\")\n"), &["a", "b"], &["ab"]),
        (
            gbnf("root ::= \"(\" root \")\" | \"x\"?"),
            &["((x))", "()", "x"],
            &["(x", "xx"],
        ),
        (
            gbnf("root ::= item (\", \" item)*\nitem ::= [a-z]+ sub?\nsub ::= \"<\" root \">\""),
            &["ab, c<d, e>"],
            &["ab,", "a<b"],
        ),
        (
            gbnf("root ::= a-b\na-b ::= \"\" | \"q\" a-b"),
            &["", "qq"],
            &["p"],
        ),
        (
            gbnf(JSON_GBNF),
            &["{\"a\": [1, -2.5e3, true, {\"b\":\"\\u00e9\"}]}", "{}"],
            &["[1]", "{\"a\"", "{\"a\":\t1}"],
        ),
    ]);
}

#[test]
fn llama_cpps_json_grammar_accepts_json() {
    let (vocabulary, pieces) = vocabulary(true);
    let whole = Matcher::new(&vocabulary, &Constraint::Gbnf(JSON_GBNF.into())).unwrap();
    for seed in 0..24 {
        let run = run(&mut whole.clone(), &pieces, seed, seed % 2 == 0, 4000);
        assert!(run.complete, "{}", lossy(&run.text));
        let value: Value = serde_json::from_slice(&run.text).unwrap();
        assert!(value.is_object(), "{value}");
    }
}

#[test]
fn grammar_errors_name_the_cause() {
    let (vocabulary, _) = vocabulary(true);
    for (text, part) in [
        ("", "`root`"),
        ("a ::= \"x\"", "`root`"),
        ("root ::= b", "\"b\""),
        ("root ::= \"x", "line 1"),
        ("root ::= \"a\"\n\nx = y", "line 3"),
        ("root ::= [z-a]", "backwards"),
        ("root ::= []", "[]"),
        ("root ::= (\"a\"", ")"),
        ("root ::= \"a\")", "new line"),
        ("root ::= *", "`*`"),
        ("root ::= \"a\"{3,2}", "m"),
        ("root ::= \"a\"{99999999999}", "1000000"),
        ("root ::= \"\\q\"", "`\\q`"),
        ("root ::= \"\\uD800\"", "no character"),
        ("root ::= \"a\"**", "()"),
        ("root ::= <think>", "tokens"),
    ] {
        let error = Matcher::new(&vocabulary, &Constraint::Gbnf(text.into())).unwrap_err();
        assert_eq!(error.kind, FailureKind::InvalidSchema);
        assert!(error.message.contains(part), "{text}: {error}");
    }
    for constraint in [
        Constraint::Lark("start: missing".into()),
        Constraint::Lark("start: <nope>".into()),
        Constraint::Lark("start".into()),
        Constraint::Lark(String::new()),
        Constraint::Regex("(".into()),
        Constraint::Regex("a\\b".into()),
    ] {
        let error = Matcher::new(&vocabulary, &constraint).unwrap_err();
        assert_eq!(
            error.kind,
            FailureKind::InvalidSchema,
            "{constraint:?}: {error}"
        );
    }
}
