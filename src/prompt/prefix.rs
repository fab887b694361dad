//! What all conversations with one system prompt have in common.

use serde_json::Value;

use super::Template;
use crate::protocol::{Message, Thinking};

/// Questions that have nothing in common.
const PROBES: [&str; 2] = ["0", "x"];

/// The text with which every conversation begins that has these system messages and
/// tools: what two questions make different is cut off, and the whitespace in front of
/// it, which many tokenizers join with the question. `None` where there is nothing worth
/// keeping: no system message and no tools, or a template that refuses them.
pub fn stable_prefix(
    template: &Template,
    messages: &[Message],
    tools: &[Value],
    thinking: Option<Thinking>,
) -> Option<String> {
    let system: Vec<Message> = messages
        .iter()
        .take_while(|message| message.role == "system")
        .cloned()
        .collect();
    if system.is_empty() && tools.is_empty() {
        return None;
    }
    let render = |question: &str| {
        let mut messages = system.clone();
        messages.push(Message::user(question));
        template.render_thinking(&messages, tools, thinking).ok()
    };
    let [first, second] = PROBES.map(render);
    let (first, second) = (first?, second?);
    let common: String = first
        .chars()
        .zip(second.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a)
        .collect();
    let kept = common.trim_end();
    (!kept.is_empty()).then(|| kept.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(source: Option<&str>) -> Template {
        Template::new(source, "<s>", "</s>", "2026-01-31").unwrap()
    }

    fn system(content: &str) -> Message {
        Message {
            role: "system".into(),
            content: content.into(),
            ..Message::default()
        }
    }

    #[test]
    fn all_conversations_begin_with_it() {
        let template = template(None);
        let prefix = stable_prefix(&template, &[system("Be brief.")], &[], None).unwrap();
        assert_eq!(
            prefix,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user"
        );
        for question in ["", "Hi", "\n\nx", "0"] {
            let messages = [system("Be brief."), Message::user(question)];
            let text = template.render(&messages, &[]).unwrap();
            assert!(text.starts_with(&prefix), "{text}");
            // The question makes no difference.
            let again = stable_prefix(&template, &messages, &[], None);
            assert_eq!(again.as_deref(), Some(prefix.as_str()));
        }
    }

    #[test]
    fn tools_in_the_first_question_belong_to_it() {
        let template = template(Some(
            "{{ bos_token }}{% for m in messages %}[INST] \
             {% if loop.first and tools %}{{ tools | tojson }} {% endif %}{{ m.content }}[/INST]{% endfor %}",
        ));
        assert_eq!(
            stable_prefix(&template, &[Message::user("Hi")], &[json!({"a": 1})], None).as_deref(),
            Some("<s>[INST] [{\"a\": 1}]")
        );
    }

    #[test]
    fn nothing_worth_keeping() {
        let chatml = template(None);
        assert_eq!(stable_prefix(&chatml, &[], &[], None), None);
        assert_eq!(
            stable_prefix(&chatml, &[Message::user("x")], &[], None),
            None
        );
        for refusing in [
            "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}",
            "{{ messages[-1].content }}",
            " ",
        ] {
            let template = template(Some(refusing));
            assert_eq!(stable_prefix(&template, &[system("x")], &[], None), None);
        }
    }
}
