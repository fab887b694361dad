//! Cost of the chat layer: rendering a prompt with two tools, and parsing an answer of a
//! given number of bytes once, as the engine does after each token.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hearth_engine::chat_shim::{Chat, Parser, RenderRequest};
use serde_json::json;

const HERMES: &str = "{%- if tools %}{{ '<|im_start|>system\n' }}{%- for tool in tools %}{{ tool | tojson }}{{ '\n' }}{%- endfor %}{{ '<|im_end|>\n' }}{%- endif %}\
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{%- if m.content %}{{ m.content }}{%- endif %}\
{%- for call in m.tool_calls or [] %}{{ '\n<tool_call>\n{\"name\": \"' + call.function.name + '\", \"arguments\": ' }}{{ call.function.arguments | tojson }}{{ '}\n</tool_call>' }}{%- endfor %}\
{{ '<|im_end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}";

fn request() -> RenderRequest {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "description": "Does it.",
            "parameters": {"type": "object", "properties": {"name": {"type": "string"}}}}})
    };
    RenderRequest {
        messages: vec![json!({"role": "user", "content": "Turn on the light."})],
        tools: vec![tool("turn_on"), tool("turn_off")],
        tool_choice: Some("auto"),
        parallel_tool_calls: true,
        enable_thinking: true,
        ..RenderRequest::default()
    }
}

fn chat(c: &mut Criterion) {
    let (chat, request) = (Chat::new(HERMES, "", "").expect("it compiles"), request());
    c.bench_function("render a prompt", |b| {
        b.iter(|| chat.render(black_box(&request)));
    });
    let rendered = chat.render(&request).expect("it renders");
    let parser = Parser::new(&rendered).expect("there is a parser");
    let mut group = c.benchmark_group("read an answer");
    for bytes in [100, 1600, 6400] {
        let text: String = "The lamp is on now. ".chars().cycle().take(bytes).collect();
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &text, |b, text| {
            b.iter(|| parser.parse(black_box(text), true));
        });
    }
    group.finish();
}

criterion_group!(benches, chat);
criterion_main!(benches);
