//! Floor 2: streamed text, and what an answer must look like. Pure.

mod date;
mod stream;

pub use date::civil;
pub use hearth_constraint as constraint;
pub use stream::TextStream;

/// What the chat layer uses where a model file has no template (`ChatML`).
pub const CHATML: &str = "{%- for message in messages -%}\n  \
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}\n\
{%- endfor -%}\n{%- if add_generation_prompt -%}\n  {{- '<|im_start|>assistant\\n' -}}\n{%- endif -%}";
