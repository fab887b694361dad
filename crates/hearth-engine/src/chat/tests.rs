//! The chat layer with the templates of real models: those that llama.cpp's own tests use,
//! which tests/llama-cpp/run.sh fetches.

use std::path::{Path, PathBuf};

use hearth_proto::{
    AnswerPart, CallMode, FailureKind, FinishReason, GenerateRequest, Message, Thinking, ToolCall,
    ToolChoice,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ChatFormat, ChatLayer, ChatPrompt};

/// 2026-01-31, noon in UTC.
const NOON_UNIX_S: i64 = 1_769_860_800;

/// A parsed answer.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    content: String,
    reasoning: String,
    calls: Vec<ToolCall>,
}

impl Seen {
    fn of(parts: Vec<AnswerPart>) -> Self {
        let mut seen = Self::default();
        for part in parts {
            match part {
                AnswerPart::Content(text) => seen.content.push_str(&text),
                AnswerPart::Reasoning(text) => seen.reasoning.push_str(&text),
                AnswerPart::ToolCall(call) => seen.calls.push(call),
            }
        }
        seen
    }
}

fn folder() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from);
    target.join("llama-cpp-tests/package/vendor/llama.cpp/models/templates")
}

/// The layer of a family; `None` where the templates were not fetched.
fn family(name: &str) -> Option<ChatLayer> {
    let source = std::fs::read_to_string(folder().join(format!("{name}.jinja")));
    let Ok(source) = source else {
        assert!(
            !folder().exists(),
            "{name} is not among the templates in {}",
            folder().display()
        );
        println!("NOT CHECKED: {name}: run tests/llama-cpp/run.sh --fetch first");
        return None;
    };
    Some(layer(&source).unwrap())
}

fn layer(source: &str) -> Result<ChatLayer, hearth_proto::Failure> {
    ChatLayer::new(&ChatFormat {
        template: Some(source.to_owned()),
        bos: "<s>".into(),
        eos: "</s>".into(),
        ..ChatFormat::default()
    })
}

fn tools() -> Vec<Value> {
    let tool = |name: &str, properties: Value, required: &[&str]| {
        json!({"type": "function", "function": {"name": name, "description": "Does it.",
            "parameters": {"type": "object", "properties": properties, "required": required}}})
    };
    vec![
        tool("turn_on", json!({"name": {"type": "string"}}), &["name"]),
        tool("get_time", json!({}), &[]),
    ]
}

fn request(thinking: bool) -> GenerateRequest {
    GenerateRequest {
        thinking: Some(if thinking {
            Thinking::On
        } else {
            Thinking::Off
        }),
        accepted_unix_s: NOON_UNIX_S,
        ..GenerateRequest::default()
    }
}

fn question() -> Vec<Message> {
    vec![
        Message {
            role: "system".into(),
            content: "Be brief.".into(),
            ..Message::default()
        },
        Message::user("Turn on the lamp."),
    ]
}

fn prompt(layer: &ChatLayer, thinking: bool) -> ChatPrompt {
    layer
        .render(&request(thinking), &question(), &tools())
        .unwrap()
}

/// The families: template, whether thinking is on, an answer of the model, and whether it
/// contains reasoning ("Hm."), content ("Well.") and a call.
type Case = (&'static str, bool, &'static str, (bool, bool, bool));
const FAMILIES: &[Case] = &[
    (
        "Qwen-Qwen2.5-7B-Instruct",
        false,
        HERMES,
        (false, true, true),
    ),
    (
        "Qwen-Qwen3-0.6B",
        true,
        "<think>\nHm.\n</think>\n\nWell.\n<tool_call>\n{\"name\": \"turn_on\", \"arguments\": {\"name\": \"lamp\"}}\n</tool_call>",
        (true, true, true),
    ),
    (
        "Qwen3.5-4B",
        true,
        "Hm.\n</think>\n\nWell.\n<tool_call>\n<function=turn_on>\n<parameter=name>\nlamp\n</parameter>\n</function>\n</tool_call>",
        (true, true, true),
    ),
    (
        "Qwen3.5-4B",
        false,
        "Well.\n<tool_call>\n<function=turn_on>\n<parameter=name>\nlamp\n</parameter>\n</function>\n</tool_call>",
        (false, true, true),
    ),
    (
        "Qwen3-Coder",
        false,
        "Well.\n<tool_call>\n<function=turn_on>\n<parameter=name>\nlamp\n</parameter>\n</function>\n</tool_call>",
        (false, true, true),
    ),
    (
        "LFM2-8B-A1B",
        false,
        "Well.<|tool_call_start|>[turn_on(name=\"lamp\")]<|tool_call_end|>",
        (false, true, true),
    ),
    (
        "LFM2.5-Instruct",
        false,
        "Well.<|tool_call_start|>[turn_on(name=\"lamp\")]<|tool_call_end|>",
        (false, true, true),
    ),
    (
        "google-gemma-4-31B-it",
        true,
        "<|channel>thought\nHm.<channel|>Well.<|tool_call>call:turn_on{name:<|\"|>lamp<|\"|>}<tool_call|>",
        (true, true, true),
    ),
    (
        "meta-llama-Llama-3.2-3B-Instruct",
        false,
        "{\"name\": \"turn_on\", \"parameters\": {\"name\": \"lamp\"}}",
        (false, false, true),
    ),
    (
        "meta-llama-Llama-3.2-3B-Instruct",
        false,
        "Well.",
        (false, true, false),
    ),
    (
        "mistralai-Ministral-3-14B-Reasoning-2512",
        true,
        "[THINK]Hm.[/THINK]Well.[TOOL_CALLS]turn_on[ARGS]{\"name\": \"lamp\"}",
        (true, true, true),
    ),
    (
        "mistralai-Mistral-Nemo-Instruct-2407",
        false,
        "[TOOL_CALLS][{\"name\": \"turn_on\", \"arguments\": {\"name\": \"lamp\"}, \"id\": \"123456789\"}]",
        (false, false, true),
    ),
    (
        "openbmb-MiniCPM5-1B",
        true,
        "Hm.\n</think>\n\nWell.<function name=\"turn_on\"><param name=\"name\">lamp</param></function>",
        (true, true, true),
    ),
    (
        "openai-gpt-oss-120b",
        true,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.turn_on <|constrain|>json<|message|>{\"name\": \"lamp\"}",
        (true, false, true),
    ),
    (
        "openai-gpt-oss-120b",
        true,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Well.",
        (true, true, false),
    ),
    (
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        true,
        "Hm.\n</think>\n\nWell.",
        (true, true, false),
    ),
    (
        "ibm-granite-granite-4.0",
        false,
        HERMES,
        (false, true, true),
    ),
    (
        "ibm-granite-granite-4.1",
        false,
        HERMES,
        (false, true, true),
    ),
    (
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
        false,
        HERMES,
        (false, true, true),
    ),
    (
        "Apertus-8B-Instruct",
        false,
        "Well.<|tools_prefix|>[{\"turn_on\": {\"name\": \"lamp\"}}]<|tools_suffix|>",
        (false, true, true),
    ),
    (
        "GLM-4.7-Flash",
        true,
        "Hm.</think>Well.<tool_call>turn_on<arg_key>name</arg_key><arg_value>lamp</arg_value></tool_call>",
        (true, true, true),
    ),
    // Their templates do not support tools: tools are described in text.
    ("google-gemma-2-2b-it", false, HERMES, (false, true, true)),
    (
        "microsoft-Phi-3.5-mini-instruct",
        false,
        HERMES,
        (false, true, true),
    ),
    (
        "ibm-granite-granite-3.3-2B-Instruct",
        false,
        HERMES,
        (false, true, true),
    ),
    (
        "HuggingFaceTB-SmolLM3-3B",
        true,
        "<think>\nHm.\n</think>\nWell.\n<tool_call>\n{\"name\": \"turn_on\", \"arguments\": {\"name\": \"lamp\"}}\n</tool_call>",
        (true, true, true),
    ),
];
const HERMES: &str = "Well.\n<tool_call>\n{\"name\": \"turn_on\", \"arguments\": {\"name\": \"lamp\"}}\n</tool_call>";

fn expected((reasoning, content, call): (bool, bool, bool)) -> Seen {
    let text = |is: bool, text: &str| if is { text.to_owned() } else { String::new() };
    let call = call.then(|| ToolCall::new("turn_on", json!({"name": "lamp"})));
    Seen {
        content: text(content, "Well."),
        reasoning: text(reasoning, "Hm."),
        calls: call.into_iter().collect(),
    }
}

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
fn brackets_without_end_are_refused_and_not_followed() {
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
fn two_calls_come_one_after_the_other_and_half_of_one_does_not() {
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
fn every_family_with_calls_can_be_made_to_call() {
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
fn the_clock_is_the_requests() {
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
fn what_a_template_or_a_tool_says_against_a_request() {
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
fn bare_calls_are_bound_as_the_familys_are() {
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
    fn no_answer_breaks_a_reader(
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
