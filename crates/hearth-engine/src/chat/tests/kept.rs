//! Reasoning that stays in the text.

use hearth_proto::{FinishReason, GenerateRequest, ReasoningFormat};

use super::{Seen, family, question, request};

const ANSWER: &str = "<think>\nHm.\n</think>\n\nHello.";

/// The answer, letter by letter, up to `end`.
fn seen(name: &str, format: ReasoningFormat, end: usize) -> Option<Seen> {
    let layer = family(name)?;
    let request = GenerateRequest {
        reasoning_format: format,
        ..request(true)
    };
    let mut reader = layer.render(&request, &question(), &[]).unwrap().reader;
    let letters = ANSWER[..end].chars();
    let mut parts: Vec<_> = letters.flat_map(|c| reader.push(&c.to_string())).collect();
    let reason = if end == ANSWER.len() {
        FinishReason::Stop
    } else {
        FinishReason::Length
    };
    parts.extend(reader.finish(reason));
    Some(Seen::of(parts))
}

#[test]
fn reasoning_is_apart_or_in_the_text() {
    for (format, content, reasoning) in [
        (ReasoningFormat::Deepseek, "Hello.", "Hm."),
        (ReasoningFormat::None, ANSWER, ""),
        (ReasoningFormat::DeepseekLegacy, ANSWER, "Hm."),
    ] {
        let Some(seen) = seen("Qwen-Qwen3-0.6B", format, ANSWER.len()) else {
            return;
        };
        assert_eq!(
            (seen.content.as_str(), seen.reasoning.as_str()),
            (content, reasoning)
        );
    }
}

#[test]
fn reasoning_that_is_cut_off_has_no_end() {
    let end = ANSWER.find("m.").unwrap();
    let Some(seen) = seen("Qwen-Qwen3-0.6B", ReasoningFormat::None, end) else {
        return;
    };
    assert_eq!(
        (seen.content.as_str(), seen.reasoning.as_str()),
        ("<think>\nH", "")
    );
}
