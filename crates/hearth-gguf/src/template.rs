//! What a chat template shows of a model that is not loaded. The engine, which renders the
//! template, knows it better.

use super::Header;

/// What a model writes around its reasoning, and the names that templates have for it.
const REASONING: [&str; 9] = [
    "</think>",
    "enable_thinking",
    "reasoning_effort",
    "reasoning_content",
    "[THINK]",
    "<|START_THINKING|>",
    "<seed:think>",
    "<|channel|>analysis",
    "<|channel>thought",
];

impl Header {
    /// Whether the chat template describes tools to the model.
    pub fn takes_tools(&self) -> bool {
        self.template_has(&["tools", "tool_call"])
    }

    /// Whether the chat template is that of a model which may reason before it answers.
    pub fn thinks(&self) -> bool {
        self.template_has(&REASONING)
    }

    fn template_has(&self, words: &[&str]) -> bool {
        let template = self.chat_template.as_deref().unwrap_or_default();
        words.iter().any(|word| template.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_reasoning_are_found_in_the_template() {
        for (template, tools, thinks) in [
            (None, false, false),
            (Some("{{ messages[0].content }}"), false, false),
            (Some("{% if tools %}{{ tools }}{% endif %}"), true, false),
            (Some("{{ message.tool_calls }}"), true, false),
            (Some("{{ content.split('</think>')[-1] }}"), false, true),
            (Some("{% if enable_thinking %}{% endif %}"), false, true),
            (Some("{{ tools }}<|channel|>analysis"), true, true),
        ] {
            let header = Header {
                chat_template: template.map(str::to_owned),
                ..Header::default()
            };
            let found = (header.takes_tools(), header.thinks());
            assert_eq!(found, (tools, thinks), "{template:?}");
        }
    }
}
