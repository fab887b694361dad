//! Prompts, and the grammars of calls.

use hearth_proto::{
    CallMode, FailureKind, FinishReason, GenerateRequest, Message, Thinking, ToolChoice,
};
use serde_json::json;

use super::families::FAMILIES;
use super::{Seen, family, layer, question, request, tools};

/// Every family's template accepts a conversation with calls and results, and the prompt
/// contains the tools and the results.
#[test]
fn tools_and_results_reach_the_model() {
    let call = json!({"id": "123456789", "type": "function",
        "function": {"name": "turn_on", "arguments": {"name": "lamp"}}});
    let mut messages = question();
    messages.push(Message {
        role: "assistant".into(),
        tool_calls: vec![call],
        ..Message::default()
    });
    messages.push(Message {
        role: "tool".into(),
        content: "It is on now.".into(),
        tool_call_id: Some("123456789".into()),
        name: Some("turn_on".into()),
        ..Message::default()
    });
    for (name, thinking, ..) in FAMILIES {
        let Some(layer) = family(name) else { return };
        let prompt = layer.render(&request(*thinking), &messages, &tools());
        let prompt = prompt.unwrap_or_else(|e| panic!("{name}: {e}"));
        let shows = |text: &str| prompt.text.contains(text);
        assert!(shows("It is on now."), "{name}: {}", prompt.text);
        // Nemo's template renders the system prompt only before a question at the end.
        assert!(
            shows("Be brief.") || name.starts_with("mistralai-Mistral-Nemo"),
            "{name}: {}",
            prompt.text
        );
        // DeepSeek R1's distillations were not trained on tools; their template omits
        // them.
        assert!(
            shows("get_time") || name.starts_with("deepseek"),
            "{name}: {}",
            prompt.text
        );
    }
}

#[test]
fn calls_can_be_forced_in_every_family_with_tools() {
    for (name, thinking, _, (_, _, has_call)) in FAMILIES {
        let Some(layer) = family(name) else { return };
        if !has_call {
            continue;
        }
        let required = GenerateRequest {
            tool_choice: ToolChoice::Required,
            ..request(*thinking)
        };
        let prompt = layer.render(&required, &question(), &tools()).unwrap();
        let grammar = layer.call_grammar(&required, &tools(), &prompt).unwrap();
        let grammar = grammar.unwrap_or_else(|| panic!("{name} has no grammar of calls"));
        assert!(
            grammar.is_forced && grammar.gbnf.contains("turn_on"),
            "{name}"
        );
    }
}

#[test]
fn the_template_gets_the_time_of_the_request() {
    let layer = layer("{{ strftime_now('%Y-%m-%d') }} {{ date_string }}").unwrap();
    let prompt = layer.render(&request(false), &question(), &[]).unwrap();
    assert_eq!(prompt.text, "2026-01-31 31 Jan 2026");
}

#[test]
fn variables_and_thinking_reach_the_template() {
    let layer = layer("{{ enable_thinking }} {{ colour | default('none') }} {{ reasoning_effort | default('any') }}").unwrap();
    let render = |request: &GenerateRequest| layer.render(request, &question(), &[]).unwrap().text;
    assert_eq!(render(&GenerateRequest::default()), "True none any");
    let mut low = request(true);
    low.thinking = Some(Thinking::Low);
    low.chat_template_kwargs
        .insert("colour".into(), "red".into());
    assert_eq!(render(&low), "True red low");
    assert_eq!(render(&request(false)), "False none any");
}

#[test]
fn earlier_reasoning_and_an_answer_to_go_on_with() {
    let Some(layer) = family("Qwen3.5-4B") else {
        return;
    };
    let mut messages = question();
    messages.push(Message {
        role: "assistant".into(),
        content: "The lamp".into(),
        reasoning_content: "A lamp can be turned on.".into(),
        ..Message::default()
    });
    let go_on = GenerateRequest {
        continue_final_message: true,
        ..request(true)
    };
    let prompt = layer.render(&go_on, &messages, &[]).unwrap();
    assert!(prompt.text.ends_with("The lamp"), "{}", prompt.text);
    assert!(
        prompt.text.contains("A lamp can be turned on."),
        "{}",
        prompt.text
    );
    let mut reader = prompt.reader;
    let mut seen = reader.push(" is on.");
    seen.extend(reader.finish(FinishReason::Stop));
    assert_eq!(Seen::of(seen).content, " is on.");
}

#[test]
fn template_and_tool_errors_refuse_the_request() {
    let broken = layer("{% if %}").unwrap_err();
    assert_eq!(broken.kind, FailureKind::ModelInvalid);
    let refusing = layer(
        "{% if messages[0].content == 'bad' %}{{ raise_exception('roles must alternate') }}{% endif %}{{ messages[-1].content }}",
    )
    .unwrap();
    let error = refusing
        .render(&request(false), &[Message::user("bad")], &[])
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::InvalidArgs);
    assert!(error.message.ends_with("roles must alternate"), "{error}");

    let Some(layer) = family("Qwen-Qwen2.5-7B-Instruct") else {
        return;
    };
    let mut tools = tools();
    tools.push(json!({"type": "function", "function": {"name": "lamp",
        "parameters": {"type": "object", "properties": {"a": {"type": "text"}}}}}));
    let error = layer
        .render(&request(false), &question(), &tools)
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::InvalidSchema);
    assert!(error.message.contains("\"lamp\""), "{error}");
}

#[test]
fn all_conversations_begin_with_the_stable_prefix() {
    let layer = layer("").unwrap();
    let system = question().remove(0);
    let request = request(false);
    let prefix = |messages: &[Message]| layer.stable_prefix(&request, messages, &[]);
    let prefix_of_both = prefix(&question()).unwrap();
    assert_eq!(
        prefix_of_both,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user"
    );
    for question in ["", "Hi", "\n\nx", "0"] {
        let messages = [system.clone(), Message::user(question)];
        let text = layer.render(&request, &messages, &[]).unwrap().text;
        assert!(text.starts_with(&prefix_of_both), "{text}");
        assert_eq!(prefix(&messages).as_deref(), Some(prefix_of_both.as_str()));
    }
    assert_eq!(prefix(&[Message::user("x")]), None);
}

#[test]
fn bare_calls_are_constrained_as_the_familys_calls() {
    let Some(layer) = family("Qwen-Qwen2.5-7B-Instruct") else {
        return;
    };
    let tool = json!({"type": "function", "function": {"name": "open", "parameters": {
        "type": "object", "required": ["target"], "properties": {
            "target": {"type": "string", "x-hearthd-schema": {
                "type": "string", "enum": ["Garage", "Front gate"]}}}}}});
    let tools = [tool];
    let request = GenerateRequest {
        call_mode: Some(CallMode::Lenient),
        ..GenerateRequest::default()
    };
    let prompt = layer
        .render(&request, &[Message::user("?")], &tools)
        .unwrap();
    assert!(!prompt.text.contains("Garage"), "{}", prompt.text);
    let calls = layer
        .call_grammar(&request, &tools, &prompt)
        .unwrap()
        .unwrap();
    for gbnf in [&calls.gbnf, &calls.bare.as_ref().unwrap().gbnf] {
        assert!(gbnf.contains("Front gate"), "{gbnf}");
    }
}
