//! The constructs of the model families' own templates, in templates of their shape.

use serde_json::{Value, json};

use super::Template;
use crate::prompt::stable_prefix;
use crate::protocol::{CallFormat, FailureKind, Message, Thinking};

fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.into(),
        content: content.into(),
        ..Message::default()
    }
}

/// A system prompt, a question, a call, its result.
fn conversation() -> Vec<Message> {
    vec![
        message("system", "Be brief."),
        message("user", "Is it warm?"),
        Message {
            tool_calls: vec![json!({"id": "000001000", "type": "function",
                "function": {"name": "temperature", "arguments": {"room": "bath"}}})],
            ..message("assistant", "")
        },
        Message {
            tool_call_id: Some("000001000".into()),
            ..message("tool", "21")
        },
    ]
}

fn tool() -> Value {
    json!({"type": "function", "function": {"name": "temperature", "description": "°C of a room",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}}}})
}

fn template(source: &str) -> Template {
    Template::new(Some(source), "<s>", "</s>", "2026-01-31").unwrap()
}

/// A tool list in the system turn, a look from the end for the last question, thoughts
/// that are dropped from older turns, results gathered in one turn.
const QWEN: &str = r#"{%- set has_system = messages[0].role == 'system' %}
{%- if tools %}
    {{- '<|im_start|>system\n' ~ (messages[0].content ~ '\n\n' if has_system else '') ~ "<tools>" }}
    {%- for tool in tools %}{{- '\n' ~ (tool | tojson) }}{%- endfor %}
    {{- "\n</tools>\nAnswer with <tool_call>{\"name\": …}</tool_call><|im_end|>\n" }}
{%- elif has_system %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(asked=0, open=true) %}
{%- for m in messages[::-1] %}
    {%- if ns.open and m.role == 'user' and not m.content.startswith('<tool_response>') %}
        {%- set ns.open = false %}
        {%- set ns.asked = messages | length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role == 'user' %}
        {{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}
    {%- elif m.role == 'assistant' %}
        {%- set text = m.content %}
        {%- set thought = m.reasoning_content if m.reasoning_content is string else '' %}
        {%- if '</think>' in text %}
            {%- set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}
            {%- set text = text.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant' }}
        {%- if thought and loop.index0 > ns.asked %}{{- '\n<think>\n' + thought + '\n</think>' }}{%- endif %}
        {%- if text %}{{- '\n' + text }}{%- endif %}
        {%- for call in m.tool_calls or [] %}
            {%- if call.function is defined %}{%- set call = call.function %}{%- endif %}
            {%- set given = call.arguments if call.arguments is string else call.arguments | tojson(ensure_ascii=False) %}
            {{- '\n<tool_call>\n{"name": "' ~ call.name ~ '", "arguments": ' ~ given ~ '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif m.role == 'tool' %}
        {%- if messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\n<tool_response>\n' ~ m.content ~ '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"#;

#[test]
fn qwen() {
    let template = template(QWEN);
    assert_eq!(CallFormat::of(QWEN), CallFormat::Hermes);
    let tool = tool();
    let text = template
        .render(&conversation(), std::slice::from_ref(&tool))
        .unwrap();
    assert_eq!(
        text,
        "<|im_start|>system\nBe brief.\n\n<tools>\n\
         {\"type\": \"function\", \"function\": {\"name\": \"temperature\", \"description\": \"°C of a room\", \
         \"parameters\": {\"type\": \"object\", \"properties\": {\"room\": {\"type\": \"string\"}}}}}\n\
         </tools>\nAnswer with <tool_call>{\"name\": …}</tool_call><|im_end|>\n\
         <|im_start|>user\nIs it warm?<|im_end|>\n\
         <|im_start|>assistant\n<tool_call>\n{\"name\": \"temperature\", \"arguments\": {\"room\": \"bath\"}}\n</tool_call><|im_end|>\n\
         <|im_start|>user\n<tool_response>\n21\n</tool_response><|im_end|>\n\
         <|im_start|>assistant\n"
    );
    let prefix = stable_prefix(&template, &conversation(), &[tool], None).unwrap();
    assert!(prefix.ends_with("</tool_call><|im_end|>\n<|im_start|>user"));
    assert!(text.starts_with(&prefix));
    for (thinking, end) in [
        (Thinking::Off, "assistant\n<think>\n\n</think>\n\n"),
        (Thinking::High, "assistant\n"),
    ] {
        let text = template.render_thinking(&conversation(), &[], Some(thinking));
        assert!(text.unwrap().ends_with(end), "{thinking:?}");
    }
    // Old thoughts go, those on the way to an answer stay.
    let thought = message("assistant", "<think>\nHm.\n</think>\n\nYes.");
    for (last, has_thought) in [("user", false), ("tool", true)] {
        let messages = [
            message("user", "Is it?"),
            thought.clone(),
            message(last, "x"),
        ];
        let text = template.render(&messages, &[]).unwrap();
        assert_eq!(
            text.contains("<think>\nHm.\n</think>"),
            has_thought,
            "{text}"
        );
        assert!(text.contains("Yes."), "{text}");
    }
}

/// The day's date, variables that may be undefined, tools in front of the first
/// question, one call a turn.
const LLAMA: &str = r#"{{- bos_token }}
{%- if not today is defined %}{%- set today = strftime_now("%d %b %Y") %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set system = "" %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- macro head(role) %}{{- '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}{%- endmacro %}
{{- head('system') }}
{%- if builtin_tools is defined or tools is not none %}{{- "Environment: ipython\n" }}{%- endif %}
{{- "Date: " + today + "\n\n" + system + "<|eot_id|>" }}
{%- if tools is not none %}
    {%- if messages | length == 0 %}{{- raise_exception("tools need a question") }}{%- endif %}
    {{- head('user') + 'Call as {"name": …, "parameters": …}.\n\n' }}
    {%- for tool in tools %}{{- (tool | tojson(indent=4)) + "\n\n" }}{%- endfor %}
    {{- messages[0]['content'] | trim + "<|eot_id|>" }}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- for m in messages %}
    {%- if 'tool_calls' in m %}
        {%- if not m.tool_calls | length == 1 %}{{- raise_exception("one call at a time") }}{%- endif %}
        {%- set call = m.tool_calls[0].function %}
        {{- head('assistant') ~ '{"name": "' ~ call.name ~ '", "parameters": ' ~ (call.arguments | tojson) ~ '}<|eot_id|>' }}
    {%- elif m.role in ['tool', 'ipython'] %}
        {%- set is_data = m.content is mapping or (m.content is iterable and m.content is not string) %}
        {{- head('ipython') ~ (m.content | tojson if is_data else m.content) ~ "<|eot_id|>" }}
    {%- else %}
        {{- head(m['role']) + m['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- head('assistant') }}{%- endif %}"#;

#[test]
fn llama() {
    let template = template(LLAMA);
    assert_eq!(CallFormat::of(LLAMA), CallFormat::Llama);
    let text = template.render(&conversation(), &[tool()]).unwrap();
    assert!(
        text.starts_with(
            "<s><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n\
             Date: 31 Jan 2026\n\nBe brief.<|eot_id|>"
        ),
        "{text}"
    );
    assert!(
        text.contains("{\n    \"type\": \"function\",\n    \"function\": {\n        \"name\": \"temperature\","),
        "{text}"
    );
    assert!(
        text.ends_with(
            "\n\nIs it warm?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n\
             {\"name\": \"temperature\", \"parameters\": {\"room\": \"bath\"}}<|eot_id|>\
             <|start_header_id|>ipython<|end_header_id|>\n\n21<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
        "{text}"
    );
    // The tools are in the first question, and still in front of what differs.
    let prefix = stable_prefix(&template, &conversation(), &[tool()], None).unwrap();
    assert!(
        text.starts_with(&prefix) && prefix.ends_with("}\n}"),
        "{prefix}"
    );
    let mut two = conversation();
    let call = two[2].tool_calls[0].clone();
    two[2].tool_calls.push(call);
    let error = template.render(&two, &[tool()]).unwrap_err();
    assert_eq!(error.kind, FailureKind::InvalidArgs);
    assert!(error.message.contains("one call at a time"), "{error}");
}

/// Tools in front of the last question, roles that must take turns, call ids of nine
/// characters, objects written piece by piece.
const MISTRAL_V3: &str = r#"{%- set turns = messages[1:] if messages[0]["role"] == "system" else messages %}
{%- set questions = turns | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.turn = 0 %}
{%- for m in turns %}
    {%- if not (m.role == "tool" or (m.tool_calls is defined and m.tool_calls is not none)) %}
        {%- if (m["role"] == "user") != (ns.turn % 2 == 0) %}{{- raise_exception("roles must alternate") }}{%- endif %}
        {%- set ns.turn = ns.turn + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for m in turns %}
    {%- if m["role"] == "user" %}
        {%- if tools is not none and m == questions[-1] %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, value in tool.function.items() if key != "return" %}
                    {{- '"' + key + '": ' + ('"' + value + '"' if value is string else value | tojson) + ("" if loop.last else ", ") }}
                {%- endfor %}
                {{- "}}" + ("]" if loop.last else ", ") }}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST] " + (messages[0].content + "\n\n" if loop.first and messages[0].role == "system" else "") + m["content"] + "[/INST]" }}
    {%- elif m.tool_calls is defined and m.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for call in m.tool_calls %}
            {%- if not call.id is defined or call.id | length != 9 %}{{- raise_exception("ids have nine characters") }}{%- endif %}
            {%- set object = call.function | tojson %}
            {{- object[:-1] + ', "id": "' + call.id + '"}' + ("]" + eos_token if loop.last else ", ") }}
        {%- endfor %}
    {%- elif m["role"] == "assistant" %}
        {{- " " + m["content"] | trim + eos_token }}
    {%- else %}
        {%- set text = m.content.content if m.content.content is defined else m.content %}
        {{- '[TOOL_RESULTS] {"content": ' + text | string + ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- endif %}
{%- endfor %}"#;

/// A system turn of its own, all tools at once, calls with the name in front.
const MISTRAL_V7: &str = r#"{{- bos_token }}
{%- if messages[0]["role"] == "system" %}
    {%- set system = messages[0]["content"] if messages[0]["content"] is string else messages[0]["content"][0]["text"] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system = "It is " + strftime_now("%Y-%m-%d") %}
    {%- set turns = messages %}
{%- endif %}
{{- "[SYSTEM_PROMPT]" + system + "[/SYSTEM_PROMPT]" }}
{%- if tools is defined and tools is not none and tools | length > 0 %}{{- "[AVAILABLE_TOOLS]" + (tools | tojson) + "[/AVAILABLE_TOOLS]" }}{%- endif %}
{%- for m in turns %}
    {%- if m["role"] == "user" %}
        {{- "[INST]" + m["content"] + "[/INST]" }}
    {%- elif m["role"] == "assistant" %}
        {%- for call in m.tool_calls if m.tool_calls is defined %}
            {%- set given = call.function.arguments %}
            {%- if given is not string %}{%- set given = given | tojson | safe %}{%- endif %}
            {{- "[TOOL_CALLS]" + call.function.name + "[ARGS]" + given }}
        {%- endfor %}
        {{- m["content"] + eos_token }}
    {%- else %}
        {{- "[TOOL_RESULTS]" + m.content | string + "[/TOOL_RESULTS]" }}
    {%- endif %}
{%- endfor %}"#;

#[test]
fn mistral() {
    assert_eq!(CallFormat::of(MISTRAL_V3), CallFormat::Mistral);
    let v3 = template(MISTRAL_V3);
    assert_eq!(
        v3.render(&conversation(), &[tool()]).unwrap(),
        "<s>[AVAILABLE_TOOLS] [{\"type\": \"function\", \"function\": {\"name\": \"temperature\", \
         \"description\": \"°C of a room\", \"parameters\": {\"type\": \"object\", \"properties\": \
         {\"room\": {\"type\": \"string\"}}}}}][/AVAILABLE_TOOLS][INST] Be brief.\n\nIs it warm?[/INST]\
         [TOOL_CALLS] [{\"name\": \"temperature\", \"arguments\": {\"room\": \"bath\"}, \"id\": \"000001000\"}]</s>\
         [TOOL_RESULTS] {\"content\": 21, \"call_id\": \"000001000\"}[/TOOL_RESULTS]"
    );
    let error = v3
        .render(&[message("user", "a"), message("user", "b")], &[])
        .unwrap_err();
    assert!(error.message.contains("must alternate"), "{error}");

    assert_eq!(CallFormat::of(MISTRAL_V7), CallFormat::Mistral);
    let v7 = template(MISTRAL_V7);
    let text = v7.render(&conversation(), &[tool()]).unwrap();
    assert!(
        text.starts_with("<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][AVAILABLE_TOOLS][{\"type\""),
        "{text}"
    );
    assert!(
        text.ends_with(
            "[INST]Is it warm?[/INST][TOOL_CALLS]temperature[ARGS]{\"room\": \"bath\"}</s>\
             [TOOL_RESULTS]21[/TOOL_RESULTS]"
        ),
        "{text}"
    );
    let text = v7.render(&[message("user", "x")], &[]).unwrap();
    assert!(text.contains("It is 2026-01-31[/SYSTEM_PROMPT]"), "{text}");
    let prefix = stable_prefix(&v7, &conversation(), &[tool()], None).unwrap();
    assert!(prefix.ends_with("[/AVAILABLE_TOOLS][INST]"), "{prefix}");
}

/// The system prompt in the first question, the assistant under another name, content
/// that may be a list, line ends written out.
const GEMMA: &str = r"{{ bos_token }}
{%- set system = messages[0]['content'] + '

' if messages[0]['role'] == 'system' else '' -%}
{%- set turns = messages[1:] if system else messages -%}
{%- for m in turns -%}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('roles must alternate') }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '
' + (system if loop.first else '') }}
    {%- if m['content'] is string -%}
        {{ m['content'] | trim }}
    {%- elif m['content'] is iterable -%}
        {%- for item in m['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model
' }}{%- endif -%}";

#[test]
fn gemma() {
    let template = template(GEMMA);
    let messages = [
        message("system", "Be brief."),
        message("user", " Hi "),
        message("assistant", "Hello"),
        message("user", "Bye"),
    ];
    assert_eq!(
        template.render(&messages, &[]).unwrap(),
        "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n\
         <start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    );
    assert!(template.render(&conversation(), &[]).is_err());
    assert_eq!(
        stable_prefix(&template, &messages, &[], None).as_deref(),
        Some("<s><start_of_turn>user\nBe brief.")
    );
}

/// All on one line; tools behind the system prompt.
const PHI: &str = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}\
    {% if m['role'] == 'system' and tools is not none %}{{ '<|tool|>' + (tools | tojson) + '<|/tool|>' }}{% endif %}\
    {{ '<|end|>' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}";

#[test]
fn a_system_prompt_goes_into_the_question_where_it_is_refused() {
    let strict = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
        [{{ m.role }}: {{ m.content }}]{% endfor %}";
    let strict = template(strict);
    let system = message("system", "Be brief.");
    let messages = [system.clone(), message("user", "Hi")];
    let text = strict.render(&messages, &[]).unwrap();
    assert_eq!(text, "[user: Be brief.\n\nHi]");
    assert_eq!(
        stable_prefix(&strict, &messages, &[], None).as_deref(),
        Some("[user: Be brief.")
    );
    // Nowhere to put it, or another reason to refuse: the template's own words.
    for messages in [
        vec![system.clone()],
        vec![system.clone(), message("assistant", "x")],
        vec![system.clone(), message("user", "x"), system],
    ] {
        let error = strict.render(&messages, &[]).unwrap_err();
        assert!(error.message.contains("no system"), "{error}");
    }
}

#[test]
fn phi() {
    assert_eq!(CallFormat::of(PHI), CallFormat::Json);
    let template = template(PHI);
    let messages = [message("system", "Be brief."), message("user", "Hi")];
    assert_eq!(
        template.render(&messages, &[json!({"a": "é"})]).unwrap(),
        "<|system|>Be brief.<|tool|>[{\"a\": \"é\"}]<|/tool|><|end|><|user|>Hi<|end|><|assistant|>"
    );
}

#[test]
fn what_else_templates_use() {
    let messages = [message("user", "One\nTwo"), message("assistant", "b")];
    for (source, expected) in [
        // SmolLM3 and others mark what was trained on.
        ("a {%- generation -%} b {%- endgeneration %} c", "ab c"),
        ("{% generation %}{{ 1 }}{% endgeneration %}", "1"),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
            "assistant",
        ),
        (
            "{%- macro show(m, sep=': ') -%}{{ m.role ~ sep ~ m.content }}{%- endmacro -%}{{ show(messages[1]) }}",
            "assistant: b",
        ),
        (
            "{{ messages | map(attribute='role') | join(',') }} {{ messages | rejectattr('role', 'eq', 'user') | list | length }}",
            "user,assistant 1",
        ),
        (
            "{{ messages[0].content.splitlines()[1] }}{{ messages[0].content.replace('One', '1').split('\\n')[0] }}{{ messages[0].get('nothing', '-') }}",
            "Two1-",
        ),
        (
            "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '^' }}>{{ loop.nextitem.role if loop.nextitem is defined else '$' }} {% endfor %}",
            "^>assistant user>$ ",
        ),
        (
            "{% set x = {'b': [1, true, none], 'a': 'é'} %}{{ x | tojson }}{% for k, v in x | dictsort %}{{ k }}{% endfor %}{{ x.items() | list | length }}",
            "{\"b\": [1, true, null], \"a\": \"é\"}ab2",
        ),
        (
            "{{ {'a': 1} | tojson(indent=2, ensure_ascii=False) }}",
            "{\n  \"a\": 1\n}",
        ),
        (
            "{{ {'a': [1]} | tojson(separators=(',', ':')) }}",
            "{\"a\":[1]}",
        ),
        (
            "{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}{{ none }}",
            "TrueNone",
        ),
        (
            "{{ messages[0].tool_calls is defined }}{{ tools is none }}{{ documents is defined }}{{ 'x' if nothing }}",
            "FalseTrueFalse",
        ),
        ("{% if true %}\n  a\n{% endif %}\nb\n", "  a\nb"),
    ] {
        let text = template(source).render(&messages, &[]).unwrap();
        assert_eq!(text, expected, "{source}");
    }
}
