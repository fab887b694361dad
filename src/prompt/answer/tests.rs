use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::protocol::CallFormat::{self, Hermes, Json, Llama, Mistral};

fn reading(calls: Option<CallFormat>) -> Reading {
    Reading {
        calls,
        ..Reading::default()
    }
}

fn content(text: &str) -> Part {
    Part::Content(text.to_owned())
}

fn thought(text: &str) -> Part {
    Part::Reasoning(text.to_owned())
}

fn call(name: &str, arguments: serde_json::Value) -> Part {
    Part::ToolCall(ToolCall {
        name: name.to_owned(),
        arguments,
    })
}

#[test]
fn calls_of_all_forms() {
    let x = || call("f", json!({"x": 1}));
    let y = || call("g", json!({}));
    for (format, answer, expected) in [
        (
            Hermes,
            "Sure.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>\n\
             <tool_call>{\"name\": \"g\"}</tool_call>\n",
            vec![content("Sure."), x(), y()],
        ),
        (
            Hermes,
            "<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"f\"}",
            vec![x()],
        ),
        (
            Hermes,
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}</tool_call> Done.",
            vec![x(), content("Done.")],
        ),
        (
            Hermes,
            "<tool_call>[{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\"}]</tool_call>",
            vec![x(), y()],
        ),
        (
            Hermes,
            "<tool_call>{\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1}}}",
            vec![x()],
        ),
        (
            Hermes,
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"}</tool_call>\\\"\"}}</tool_call>",
            vec![call("f", json!({"x": "}</tool_call>\""}))],
        ),
        (
            Llama,
            "{\"name\": \"f\", \"parameters\": {\"x\": 1}}",
            vec![x()],
        ),
        (
            Llama,
            "\n<|python_tag|>{\"name\": \"f\", \"parameters\": {\"x\": 1}}; \
             {\"name\": \"g\", \"parameters\": {}}",
            vec![x(), y()],
        ),
        (
            Llama,
            "{\"name\": \"f\", \"parameters\": {\"x\": 1}}\n{\"name\": \"g\", \"parameters\": {}}\n",
            vec![x(), y()],
        ),
        (
            Mistral,
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": 1}, \"id\": \"a\"}, {\"name\": \"g\", \"arguments\": {}}]",
            vec![x(), y()],
        ),
        (
            Mistral,
            "I look.[TOOL_CALLS]f[CALL_ID]a1[ARGS]{\"x\": 1}[TOOL_CALLS]g[ARGS]{}",
            vec![content("I look."), x(), y()],
        ),
        (Mistral, "[TOOL_CALLS]f{\"x\": 1}", vec![x()]),
        (
            Mistral,
            "[{\"name\": \"f\", \"arguments\": {\"x\": 1}}]",
            vec![x()],
        ),
        (
            Json,
            " {\"name\": \"f\", \"arguments\": {\"x\": 1}} ",
            vec![x()],
        ),
    ] {
        assert_eq!(
            AnswerParser::read(reading(Some(format)), answer),
            expected,
            "{format:?}: {answer}"
        );
    }
}

#[test]
fn what_is_no_call_stays_content_to_the_byte() {
    for (format, answers) in [
        (
            Hermes,
            &[
                "no call ",
                "<tool_call>{not json}</tool_call> after",
                "<tool_call>[1]</tool_call>",
                "<tool_call>[]",
                "<tool_call>{\"name\": 3}</tool_call>",
                "<tool_call>{\"name\": \"x\", \"arguments\": 3}</tool_call>",
                "<tool_call>{\"name\": \"f\", \"argum",
                "a <tool_call>  ",
                "a <tool_",
                "{\"name\": \"f\", \"arguments\": {}}",
            ][..],
        ),
        (
            Llama,
            &[
                "{\"name\": \"Ada\"}",
                "{\"name\": \"f\", \"parameters\": {}} is how.",
                "<|python_tag|>print(1)",
                "{}",
                "{]",
            ],
        ),
        (
            Mistral,
            &[
                "[TOOL_CALLS]",
                "[TOOL_CALLS]f",
                "[TOOL_CALLS]f [ARGS]{}",
                "[1, 2]",
                "[TOOL",
            ],
        ),
        (Json, &["[\"a\"]", "{\"answer\": 42}\n", "  "]),
    ] {
        for answer in answers {
            assert_eq!(
                AnswerParser::read(reading(Some(format)), answer),
                [content(answer)],
                "{format:?}"
            );
        }
    }
}

#[test]
fn without_tools_nothing_is_a_call() {
    let answer = "<tool_call>{\"name\": \"f\"}</tool_call>\n";
    assert_eq!(
        AnswerParser::read(Reading::default(), answer),
        [content(answer)]
    );
}

#[test]
fn only_offered_tools_are_called() {
    let reading = Reading {
        calls: Some(Hermes),
        tools: vec!["f".to_owned()],
        in_reasoning: false,
    };
    let made_up = "<tool_call>{\"name\": \"rm\"}";
    let answer = format!("{made_up}</tool_call><tool_call>{{\"name\": \"f\"}}</tool_call>");
    assert_eq!(
        AnswerParser::read(reading, &answer),
        [
            content(&format!("{made_up}</tool_call>")),
            call("f", json!({}))
        ]
    );
}

#[test]
fn reasoning_is_split_off() {
    let f = || call("f", json!({}));
    for (in_reasoning, answer, expected) in [
        (
            false,
            "<think>\nHm.\n</think>\n\nYes.",
            vec![thought("Hm."), content("Yes.")],
        ),
        (
            true,
            "\nHm. \n\n So.</think>Yes.\n",
            vec![thought("Hm. \n\n So."), content("Yes.\n")],
        ),
        (
            true,
            "<think>Hm.</think>Yes.",
            vec![thought("Hm."), content("Yes.")],
        ),
        (false, "<think>\n\n</think>\n\nYes.", vec![content("Yes.")]),
        (false, "<think>Hm. </thi", vec![thought("Hm. </thi")]),
        (
            true,
            "Shall I <tool_call>{\"name\": \"f\"}</tool_call>?</think>\n{\"name\": \"f\", \"parameters\": {}}",
            vec![
                thought("Shall I <tool_call>{\"name\": \"f\"}</tool_call>?"),
                f(),
            ],
        ),
        (
            false,
            "It is <think>a</think>.",
            vec![content("It is <think>a</think>.")],
        ),
        (
            false,
            "<think>a</think><think>b</think>",
            vec![thought("a"), content("<think>b</think>")],
        ),
        (false, "<thin", vec![content("<thin")]),
    ] {
        let reading = Reading {
            in_reasoning,
            ..reading(Some(Llama))
        };
        assert_eq!(AnswerParser::read(reading, answer), expected, "{answer}");
    }
}

#[test]
fn text_is_not_held_back_longer_than_needed() {
    let mut parser = AnswerParser::new(reading(Some(Hermes)));
    assert_eq!(parser.push("Rome"), [content("Rome")]);
    assert_eq!(parser.push(" <"), []);
    assert_eq!(parser.push("b> is "), [content(" <b> is")]);
    let mut parser = AnswerParser::new(reading(Some(Llama)));
    assert_eq!(parser.push("{\"na"), []);
    assert_eq!(parser.push("tion\""), [content("{\"nation\"")]);
    let mut parser = AnswerParser::new(Reading::default());
    assert_eq!(parser.push("<think>One "), [thought("One")]);
    assert_eq!(parser.push("two</"), [thought(" two")]);
    // Before the call ends there is nothing; its end marker is not waited for.
    let mut parser = AnswerParser::new(reading(Some(Hermes)));
    assert_eq!(parser.push("<tool_call>{\"name\": \"f\""), []);
    assert_eq!(parser.push("}"), [call("f", json!({}))]);
}

#[test]
fn the_template_tells_the_form() {
    for (template, format) in [
        ("", Hermes),
        ("{{ messages[0].content }}", Hermes),
        ("{% if tools %}<tool_call>{% endif %}", Hermes),
        ("{% if tools %}<|python_tag|>{% endif %}", Llama),
        (
            "<|start_header_id|> {\"name\": …, \"parameters\": …}",
            Llama,
        ),
        ("{% if tools %}[AVAILABLE_TOOLS]…[TOOL_CALLS]", Mistral),
        ("{% if tools %}{{ tools }}{% endif %}", Json),
    ] {
        assert_eq!(CallFormat::of(template), format, "{template}");
    }
}

#[test]
fn an_open_think_is_seen_at_the_prompts_end_only() {
    assert!(opens_reasoning("<|im_start|>assistant\n<think>\n"));
    assert!(!opens_reasoning("<think>\n\n</think>\n\n"));
    assert!(!opens_reasoning("<think> is a tag"));
    assert!(!opens_reasoning(""));
}

/// Parts with neighbours of one kind joined: where they are cut is chance.
fn joined(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match (joined.last_mut(), part) {
            (Some(Part::Content(last)), Part::Content(more))
            | (Some(Part::Reasoning(last)), Part::Reasoning(more)) => last.push_str(&more),
            (_, part) => joined.push(part),
        }
    }
    joined
}

fn in_pieces(reading: Reading, answer: &str, cuts: &[usize]) -> Vec<Part> {
    let mut parser = AnswerParser::new(reading);
    let mut parts = Vec::new();
    let mut rest: Vec<char> = answer.chars().collect();
    for cut in cuts {
        let piece: String = rest.drain(..(*cut).min(rest.len())).collect();
        parts.extend(parser.push(&piece));
    }
    parts.extend(parser.push(&rest.iter().collect::<String>()));
    parts.extend(parser.finish());
    joined(parts)
}

/// Words that answers are made of, and everything that could trip the parser.
fn answers() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[CALL_ID]",
        "[ARGS]",
        "{\"name\": \"f\", \"arguments\": {\"x\": \"é}\\\"\"}}",
        "{\"name\": \"f\", \"parameters\": {}}",
        "{\"name\": \"f\"}",
        "{\"name\"",
        "{\"x\": [1]}",
        "f",
        "; ",
        "\n",
        " ",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\\",
        ",",
        "<",
        "é",
        "\u{3000}",
        "🔥 end.",
    ]);
    prop::collection::vec(word, 0..14).prop_map(|words| words.concat())
}

fn readings() -> impl Strategy<Value = Reading> {
    let calls = prop::sample::select(vec![
        None,
        Some(Hermes),
        Some(Llama),
        Some(Mistral),
        Some(Json),
    ]);
    let tools = prop::sample::select(vec![vec![], vec!["f".to_owned()], vec!["g".to_owned()]]);
    (calls, tools, any::<bool>()).prop_map(|(calls, tools, in_reasoning)| Reading {
        calls,
        tools,
        in_reasoning,
    })
}

/// Everything but whitespace.
fn ink(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn cutting_does_not_matter(
        answer in answers(),
        reading in readings(),
        cuts in prop::collection::vec(1usize..9, 0..60),
    ) {
        let whole = AnswerParser::read(reading.clone(), &answer);
        prop_assert_eq!(&whole, &joined(whole.clone()));
        prop_assert_eq!(&in_pieces(reading.clone(), &answer, &cuts), &whole);
        prop_assert_eq!(&in_pieces(reading, &answer, &vec![1; answer.len()]), &whole);
    }

    /// Where there is no call, only the marks of reasoning and whitespace go.
    #[test]
    fn nothing_is_lost(answer in answers(), reading in readings()) {
        let may_reason = reading.in_reasoning || answer.contains("<think>");
        let mut text = String::new();
        for part in AnswerParser::read(reading, &answer) {
            match part {
                Part::Content(more) | Part::Reasoning(more) => text.push_str(&more),
                Part::ToolCall(_) => return Ok(()),
            }
        }
        if may_reason {
            let bare = |text: &str| ink(text).replace("<think>", "").replace("</think>", "");
            prop_assert_eq!(bare(&text), bare(&answer));
        } else {
            prop_assert_eq!(text, answer);
        }
    }

    #[test]
    fn ordinary_text_comes_as_it_is(answer in "[a-z \n<>\\[\\]é🔥]{0,60}") {
        prop_assume!(!answer.contains("<think>"));
        for format in [Hermes, Llama, Mistral, Json] {
            let text: String = AnswerParser::read(reading(Some(format)), &answer)
                .iter()
                .map(|part| match part { Part::Content(text) => text.as_str(), _ => "?" })
                .collect();
            prop_assert_eq!(&text, &answer);
        }
    }
}
