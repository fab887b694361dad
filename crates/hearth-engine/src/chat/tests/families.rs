//! Answers of real models, by family.

use hearth_proto::ToolCall;
use serde_json::json;

use super::Seen;

/// The families: template, whether thinking is on, an answer of the model, and whether it
/// contains reasoning ("Hm."), content ("Well.") and a call.
pub(super) type Case = (&'static str, bool, &'static str, (bool, bool, bool));
pub(super) const FAMILIES: &[Case] = &[
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

pub(super) fn expected((reasoning, content, call): (bool, bool, bool)) -> Seen {
    let text = |is: bool, text: &str| if is { text.to_owned() } else { String::new() };
    let call = call.then(|| ToolCall::new("turn_on", json!({"name": "lamp"})));
    Seen {
        content: text(content, "Well."),
        reasoning: text(reasoning, "Hm."),
        calls: call.into_iter().collect(),
    }
}
