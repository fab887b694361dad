//! Tool calls, forced and begun by the model, in the forms that llama.cpp's chat layer
//! defines.

use hearth_proto::{Constraint, FailureKind};
use serde_json::Value;

use super::{CALL, CALL_END, END, fits, greedy, lossy, run, vocabulary};
use crate::{BareCalls, Binding, CallGrammar, Matcher, Vocabulary};

/// As the chat layer writes it for Qwen's template, with the text before the calls.
const HERMES: &str = r#"root ::= "<|im_start|>assistant\n" space until-9? tool-calls
space ::= | " " | "\n"{1,2} [ \t]{0,20}
area ::= "\"kitchen\"" | "\"hall\""
tool-call ::= "<tool_call>\n" space (tool-turn-on | tool-all) (space "," space (tool-turn-on | tool-all))* space "</tool_call>"
tool-calls ::= (tool-call space)+
tool-all ::= "{" space "\"name\"" space ":" space ("\"" "turn_on_all" "\"") space "," space "\"arguments\"" space ":" space tool-all-schema space "}"
tool-all-schema ::= "{" space "}"
tool-turn-on ::= "{" space "\"name\"" space ":" space ("\"" "turn_on" "\"") space "," space "\"arguments\"" space ":" space tool-turn-on-schema space "}"
tool-turn-on-schema ::= "{" space "\"area\"" space ":" space area space "}"
until-9 ::= | [<] until-9-01 | [^<] until-9
until-9-01 ::= | [<] until-9-01 | [^<t] until-9
"#;
/// A form with arguments as text up to a tag, as Qwen3.5 writes them.
const TAGGED: &str = r#"ac-1 ::= [<] ac-1-01 | [^<] ac-1
ac-1-01 ::= [<] ac-1-01 | [/] ac-1-02 | [^/<] ac-1
ac-1-02 ::= [<] ac-1-01 | [p] ac-1-03 | [^<p] ac-1
ac-1-03 ::= [<] ac-1-01 | [>] ac-1-04 | [^<>] ac-1
ac-1-04 ::= "\n"
root ::= "x" tool-call-root
tool-call ::= "<tool_call>\n" ("<function=" "say" ">\n") ("<parameter=" "text" ">\n") ac-1 "</function>\n" "</tool_call>"
tool-call-root ::= (tool-call tool-call*)
"#;

pub(super) fn hermes(is_forced: bool) -> CallGrammar {
    CallGrammar {
        gbnf: HERMES.into(),
        triggers: vec!["<tool_call>".into()],
        controls: vec!["<tool_call>".into(), "</tool_call>".into()],
        is_forced,
        one_call: false,
        bare: None,
    }
}

/// As [`hermes`], where an answer that begins with JSON is a call as well.
pub(super) fn lenient() -> CallGrammar {
    CallGrammar {
        bare: Some(BareCalls {
            gbnf: HERMES.into(),
            marks: ["<tool_call>".into(), "</tool_call>".into()],
        }),
        ..hermes(false)
    }
}

/// Llama's form: no marker, and a call is the whole answer.
fn bare() -> CallGrammar {
    CallGrammar {
        gbnf: HERMES
            .replace("\"<tool_call>\\n\" space", "")
            .replace("space \"</tool_call>\"", ""),
        triggers: Vec::new(),
        controls: Vec::new(),
        is_forced: false,
        one_call: true,
        bare: None,
    }
}

pub(super) fn matcher(vocabulary: &Vocabulary, calls: CallGrammar) -> Matcher {
    bound(
        vocabulary,
        &Binding {
            calls: Some(calls),
            ..Binding::default()
        },
    )
}

pub(super) fn bound(vocabulary: &Vocabulary, binding: &Binding) -> Matcher {
    Matcher::bound(vocabulary, binding).unwrap().unwrap()
}

/// The calls of an answer; text before them is ignored.
fn calls(text: &str) -> Vec<Value> {
    text.split("<tool_call>")
        .skip(1)
        .flat_map(|call| {
            let (call, _) = call
                .split_once("</tool_call>")
                .unwrap_or_else(|| panic!("{text}"));
            // One tag may contain several, separated by commas.
            let list = format!("[{call}]");
            let list: Vec<Value> =
                serde_json::from_str(&list).unwrap_or_else(|e| panic!("{text}: {e}"));
            list
        })
        .collect()
}

pub(super) fn assert_call(call: &Value) {
    let arguments = call["arguments"]
        .as_object()
        .unwrap_or_else(|| panic!("{call}"));
    match call["name"].as_str().unwrap() {
        "turn_on" => {
            let area = arguments["area"].as_str().unwrap();
            assert!(
                arguments.len() == 1 && ["kitchen", "hall"].contains(&area),
                "{call}"
            );
        }
        "turn_on_all" => assert!(arguments.is_empty(), "{call}"),
        _ => panic!("{call}"),
    }
}

#[test]
fn a_forced_answer_is_calls_and_nothing_else() {
    for special in [false, true] {
        let (vocabulary, pieces) = vocabulary(special);
        let whole = matcher(&vocabulary, hermes(true));
        for seed in 0..16 {
            let run = run(&mut whole.clone(), &pieces, seed, seed % 2 == 0, 4000);
            let text = lossy(&run.text);
            assert!(run.complete && text.starts_with("<tool_call>"), "{text}");
            calls(&text).iter().for_each(assert_call);
        }
    }
}

#[test]
fn a_single_call_is_not_followed_by_another() {
    let (vocabulary, pieces) = vocabulary(true);
    let one = matcher(
        &vocabulary,
        CallGrammar {
            gbnf: HERMES.replace(" (space \",\" space (tool-turn-on | tool-all))*", ""),
            one_call: true,
            ..hermes(true)
        },
    );
    for seed in 0..16 {
        let run = run(&mut one.clone(), &pieces, seed, true, 4000);
        let text = lossy(&run.text);
        assert!(run.complete && calls(&text).len() == 1, "{text}");
    }
}

#[test]
fn calls_rendered_by_the_template_are_accepted_and_mostly_forced() {
    let (vocabulary, pieces) = vocabulary(true);
    let mut forced = matcher(&vocabulary, hermes(true));
    let text = lossy(&run(&mut forced.clone(), &pieces, 3, true, 4000).text);
    assert!(text.contains("{\"name\": \"turn_on"), "{text}");
    forced.accept(CALL).unwrap();
    let (fit, _) = fits(
        &mut forced,
        &pieces,
        "\n{\"name\": \"turn_on\", \"arguments\": {\"area\": \"hall\"}}\n",
    );
    assert!(fit);
    assert!(allows(&mut forced, &pieces, CALL_END));
}

#[test]
fn text_up_to_a_tag_is_one_terminal() {
    let (vocabulary, pieces) = vocabulary(false);
    let tagged = CallGrammar {
        gbnf: TAGGED.into(),
        ..hermes(true)
    };
    let mut call = matcher(&vocabulary, tagged);
    let text =
        "<tool_call>\n<function=say>\n<parameter=text>\na </b> < x </p>\n</function>\n</tool_call>";
    assert_eq!(fits(&mut call, &pieces, text), (true, true));
}

/// Whether a token may come next.
pub(super) fn allows(matcher: &mut Matcher, pieces: &[Vec<u8>], token: i32) -> bool {
    let mut logits = vec![0.0; pieces.len()];
    matcher.mask(&mut logits).unwrap();
    logits[usize::try_from(token).unwrap()].is_finite()
}

#[test]
fn text_is_unconstrained_until_a_call_begins() {
    for special in [false, true] {
        let (vocabulary, pieces) = vocabulary(special);
        let byte = |b: u8| i32::from(b);
        let mut auto = matcher(&vocabulary, hermes(false));
        assert_eq!(
            fits(&mut auto, &pieces, "a <b> {\"x\": </tool_call> <tool_"),
            (true, true)
        );
        assert!(!auto.is_complete() && auto.forced().is_empty());
        if special {
            assert!(allows(&mut auto, &pieces, CALL));
            auto.accept(CALL).unwrap();
        } else {
            assert_eq!(fits(&mut auto, &pieces, "call"), (true, true));
            // `>\n` continues a call, `></` makes it invalid, and after `>` both are
            // possible.
            let token = |text: &str| greedy(&pieces, text.as_bytes())[0];
            assert!(allows(&mut auto, &pieces, token(">\n")));
            assert!(!allows(&mut auto, &pieces, token("></")));
            assert!(allows(&mut auto, &pieces, byte(b'>')));
            auto.accept(token(">\n")).unwrap();
        }
        assert!(!allows(&mut auto, &pieces, END));
        assert!(!allows(&mut auto, &pieces, byte(b'x')));
        let call = r#"{"name": "turn_on", "arguments": {"area": "hall"}}"#;
        let call = if special {
            format!("\n{call}")
        } else {
            call.into()
        };
        assert_eq!(fits(&mut auto, &pieces, &call), (true, false));
        if special {
            assert!(allows(&mut auto, &pieces, CALL_END));
            auto.accept(CALL_END).unwrap();
        } else {
            assert_eq!(fits(&mut auto, &pieces, "\n</tool_call>"), (true, true));
        }
        // The end may come, or another call, but no text: the chat layer could not parse
        // it.
        assert!(allows(&mut auto, &pieces, END));
        assert!(!allows(&mut auto, &pieces, byte(b'x')));
    }
}

#[test]
fn a_brace_begins_a_call_only_at_the_start() {
    let (vocabulary, pieces) = vocabulary(true);
    let mut text = matcher(&vocabulary, bare());
    assert_eq!(fits(&mut text, &pieces, "Hm: {x}"), (true, true));
    let mut call = matcher(&vocabulary, bare());
    assert_eq!(fits(&mut call, &pieces, " \n "), (true, true));
    let token = |text: &str| greedy(&pieces, text.as_bytes())[0];
    assert!(!allows(&mut call, &pieces, token("{}")));
    assert!(allows(&mut call, &pieces, token("{\"")));
    call.accept(token("{")).unwrap();
    assert!(!allows(&mut call, &pieces, token("x")));
    assert!(!call.forced().is_empty());
}

#[test]
fn randomly_generated_calls_are_valid() {
    let (vocabulary, pieces) = vocabulary(true);
    let whole = matcher(&vocabulary, hermes(false));
    let mut seen = 0;
    for seed in 0..200 {
        let run = run(&mut whole.clone(), &pieces, seed, true, 4000);
        assert!(run.complete);
        let calls = calls(&lossy(&run.text));
        calls.iter().for_each(assert_call);
        seen += calls.len();
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn json_stays_possible_while_tools_are_offered() {
    let (vocabulary, pieces) = vocabulary(false);
    let both = bound(
        &vocabulary,
        &Binding {
            constraint: Some(Constraint::JsonObject),
            calls: Some(hermes(false)),
            ..Binding::default()
        },
    );
    let call = "<tool_call>\n{\"name\": \"turn_on_all\", \"arguments\": {}}</tool_call>";
    for (text, fit) in [("{\"ab\": 12}", true), (call, true), ("ab", false)] {
        assert_eq!(fits(&mut both.clone(), &pieces, text).0, fit, "{text}");
    }
}

#[test]
fn a_grammar_without_calls_is_an_error() {
    let (vocabulary, _) = vocabulary(true);
    let binding = Binding {
        calls: Some(CallGrammar {
            gbnf: "root ::= \"x\"".into(),
            ..hermes(true)
        }),
        ..Binding::default()
    };
    let error = Matcher::bound(&vocabulary, &binding).unwrap_err();
    assert_eq!(error.kind, FailureKind::InvalidSchema);
    assert!(
        Matcher::bound(&vocabulary, &Binding::default())
            .unwrap()
            .is_none()
    );
}
