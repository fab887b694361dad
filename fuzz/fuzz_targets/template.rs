//! Chat templates of model files, and conversations put into them.

#![no_main]

use hearthd::prompt::Template;
use hearthd::protocol::{Message, Thinking};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    let (source, conversation) = data.split_once('\0').unwrap_or((data, "Hello."));
    // Messages and tools as a request has them.
    let parsed: Option<(Vec<Message>, Vec<serde_json::Value>)> =
        serde_json::from_str(conversation).ok();
    let (messages, tools) =
        parsed.unwrap_or_else(|| (vec![Message::user(conversation)], Vec::new()));
    let given = (!source.is_empty()).then_some(source);
    let Ok(template) = Template::new(given, "<s>", "</s>", "2026-01-01") else {
        return;
    };
    let once = template.render_thinking(&messages, &tools, Some(Thinking::On));
    // The same question has the same prompt: what is kept of prompts hangs on it.
    assert_eq!(
        once,
        template.render_thinking(&messages, &tools, Some(Thinking::On))
    );
});
