//! Parsing of answers.

use hearth_proto::{AnswerPart, FinishReason, GenerateRequest, Message, ToolCall};
use proptest::prelude::*;
use serde_json::json;

use super::families::{FAMILIES, expected};
use super::{Seen, family, prompt, question, request, tools};

#[test]
fn answers_of_all_families_are_read_however_they_are_cut() {
    for (name, thinking, answer, parts) in FAMILIES {
        let Some(layer) = family(name) else { return };
        for cut in (0..=answer.len()).filter(|n| answer.is_char_boundary(*n)) {
            let mut reader = prompt(&layer, *thinking).reader;
            let (first, second) = answer.split_at(cut);
            let mut seen = reader.push(first);
            seen.extend(reader.push(second));
            seen.extend(reader.finish(FinishReason::Stop));
            assert_eq!(Seen::of(seen), expected(*parts), "{name} cut at {cut}");
        }
        let mut reader = prompt(&layer, *thinking).reader;
        let mut seen: Vec<AnswerPart> = answer
            .chars()
            .flat_map(|c| reader.push(&c.to_string()))
            .collect();
        seen.extend(reader.finish(FinishReason::Stop));
        assert_eq!(Seen::of(seen), expected(*parts), "{name}, letter by letter");
    }
}

#[test]
fn an_answer_that_is_cut_off_shows_no_markup() {
    for (name, thinking, answer, parts) in FAMILIES {
        let Some(layer) = family(name) else { return };
        let whole = expected(*parts);
        for end in (0..answer.len()).filter(|n| answer.is_char_boundary(*n)) {
            let mut reader = prompt(&layer, *thinking).reader;
            let mut seen = reader.push(&answer[..end]);
            seen.extend(reader.finish(FinishReason::Length));
            let seen = Seen::of(seen);
            let at = format!("{name} after {:?}: {seen:?}", &answer[..end]);
            assert!(whole.content.starts_with(seen.content.trim_end()), "{at}");
            assert!(whole.reasoning.starts_with(&seen.reasoning), "{at}");
            assert!(seen.calls.is_empty() || seen.calls == whole.calls, "{at}");
            // An answer that the model or a stop string ends in the middle has no call
            // either.
            let mut reader = prompt(&layer, *thinking).reader;
            let mut seen = reader.push(&answer[..end]);
            seen.extend(reader.finish(FinishReason::Stop));
            let seen = Seen::of(seen);
            assert!(seen.calls.is_empty() || seen.calls == whole.calls, "{at}");
        }
    }
}

#[test]
fn deep_nesting_is_refused_without_recursion() {
    let Some(layer) = family("Qwen-Qwen2.5-7B-Instruct") else {
        return;
    };
    let deep = format!(
        "<tool_call>\n{{\"name\": \"turn_on\", \"arguments\": {{\"name\": {}",
        "[".repeat(500_000)
    );
    let mut reader = prompt(&layer, false).reader;
    let mut seen = reader.push(&deep);
    seen.extend(reader.finish(FinishReason::Length));
    assert!(Seen::of(seen).calls.is_empty());
    let mut messages = question();
    messages.push(Message {
        role: "assistant".into(),
        content: deep,
        ..Message::default()
    });
    let go_on = GenerateRequest {
        continue_final_message: true,
        ..request(false)
    };
    let refused = layer.render(&go_on, &messages, &tools()).unwrap_err();
    assert!(refused.message.contains("brackets"), "{refused}");
}

#[test]
fn two_calls_are_read_in_order_and_a_partial_one_is_not() {
    let Some(layer) = family("Qwen-Qwen2.5-7B-Instruct") else {
        return;
    };
    let call = |name: &str| {
        format!(
            "<tool_call>\n{{\"name\": \"turn_on\", \"arguments\": {{\"name\": \"{name}\"}}}}\n</tool_call>\n"
        )
    };
    let (first, second) = (call("a"), call("b"));
    let called = |name: &str| ToolCall::new("turn_on", json!({"name": name}));

    let mut reader = prompt(&layer, false).reader;
    let mut seen = reader.push(&first);
    assert!(Seen::of(seen.clone()).calls.is_empty(), "it may yet grow");
    seen.extend(reader.push(&second));
    assert_eq!(Seen::of(seen.clone()).calls, [called("a")]);
    seen.extend(reader.finish(FinishReason::Stop));
    assert_eq!(Seen::of(seen).calls, [called("a"), called("b")]);

    let mut reader = prompt(&layer, false).reader;
    let mut seen = reader.push(&first);
    seen.extend(reader.push(&second[..second.len() / 2]));
    seen.extend(reader.finish(FinishReason::Length));
    assert_eq!(
        Seen::of(seen),
        Seen {
            calls: vec![called("a")],
            ..Seen::default()
        }
    );

    let one_call = GenerateRequest {
        one_call: true,
        ..request(false)
    };
    let mut reader = layer
        .render(&one_call, &question(), &tools())
        .unwrap()
        .reader;
    let mut seen = reader.push(&(first + &second));
    seen.extend(reader.finish(FinishReason::Stop));
    assert_eq!(Seen::of(seen).calls.len(), 1);
}

#[test]
fn text_that_is_no_call_is_content() {
    let Some(layer) = family("Qwen-Qwen2.5-7B-Instruct") else {
        return;
    };
    for text in [
        "a < b",
        "{\"name\": \"turn_on\"}",
        "<tool_call> is a tag",
        "<tool_call>\n{\"name\": \"explode\", \"arguments\": {}}\n</tool_call>",
    ] {
        let mut reader = prompt(&layer, false).reader;
        let mut seen = reader.push(text);
        seen.extend(reader.finish(FinishReason::Stop));
        assert_eq!(Seen::of(seen).content, text);
    }
}

/// Pieces of the answers of all families.
fn pieces() -> Vec<String> {
    let mut pieces: Vec<String> = FAMILIES
        .iter()
        .flat_map(|(_, _, answer, _)| answer.split_inclusive(['>', ']', '\n', '"', '|']))
        .map(str::to_owned)
        .collect();
    pieces.extend(["\u{0}", "é", "{", "[", "\\", "\\u12", "</", "<|"].map(str::to_owned));
    pieces.sort();
    pieces.dedup();
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Every text of a model is parsed without failure, and only offered tools are
    /// called.
    #[test]
    fn arbitrary_answers_do_not_panic(
        choice in 0..FAMILIES.len(),
        parts in proptest::collection::vec(proptest::sample::select(pieces()), 0..24),
        keep in proptest::bool::ANY,
    ) {
        let (name, thinking, answer, _) = FAMILIES[choice];
        let Some(layer) = family(name) else { return Ok(()) };
        let mut reader = prompt(&layer, thinking).reader;
        let mut seen = if keep { reader.push(answer) } else { Vec::new() };
        for part in &parts {
            seen.extend(reader.push(part));
        }
        seen.extend(reader.finish(FinishReason::Stop));
        for call in Seen::of(seen).calls {
            prop_assert!(["turn_on", "get_time"].contains(&call.name.as_str()), "{call:?}");
        }
    }
}
