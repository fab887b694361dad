//! Renders conversations to prompts, with the chat template of the model file and
//! llama.cpp's chat layer.

mod openai;
mod probe;
mod prompt;
#[cfg(test)]
mod tests;
mod text_tools;

pub use probe::run as try_template;

use std::cell::RefCell;

use hearth_constraint::{BareCalls, CallGrammar, invalid_tool, relaxed_tool};
use hearth_proto::{
    CallMode, ChatAbilities, Failure, FailureKind, GenerateRequest, Message, ToolChoice,
    common_prefix,
};
use serde_json::{Value, json};

use self::openai::{as_openai, bound_tools, example, reason, render_request, shown_tools};
pub(super) use self::prompt::ChatPrompt;
use super::backend::ChatFormat;
use crate::chat_shim::{Chat, ChatError};

/// Questions without a common prefix.
const PROBES: [&str; 2] = ["0", "x"];
/// Prefixes remembered; each is a system prompt with its tools.
const BEGINNINGS_MAX: usize = 8;

/// The chat template of a loaded model.
#[derive(Debug)]
pub(super) struct ChatLayer {
    template: Chat,
    /// The file's template for requests with tools, where it has a separate one.
    tool_template: Option<Chat>,
    /// Parses calls where the model's own template does not support them.
    text_tools: Chat,
    /// The template's calls cannot be parsed: tools are described in text.
    needs_text_tools: bool,
    bos: String,
    /// System messages and tools, with the common prefix of all their prompts.
    beginnings: RefCell<Vec<(String, Option<String>)>>,
}

impl ChatLayer {
    /// As [`Self::new`], for a file of unknown origin: a template that takes too long or
    /// too much memory is refused. Only for the executable `hearth-engine`.
    ///
    /// # Errors
    /// `ModelInvalid`.
    pub(super) fn load(format: &ChatFormat) -> Result<Self, Failure> {
        probe::check(format)?;
        Self::new(format)
    }

    /// Compiles the templates of a model.
    ///
    /// # Errors
    /// `ModelInvalid` where one does not compile.
    pub(super) fn new(format: &ChatFormat) -> Result<Self, Failure> {
        let compile = |source: &str| {
            Chat::new(source, &format.bos, &format.eos).map_err(|error| {
                let why = reason(&error);
                Failure::new(
                    FailureKind::ModelInvalid,
                    format!("the model file's chat template does not compile: {why}"),
                )
            })
        };
        let template = compile(format.template.as_deref().unwrap_or_default())?;
        let tool_template = format.tool_template.as_deref().map(compile).transpose()?;
        let text_tools = compile(text_tools::TEMPLATE)?;
        let mut layer = Self {
            template,
            tool_template,
            text_tools,
            needs_text_tools: false,
            bos: format.bos.clone(),
            beginnings: RefCell::default(),
        };
        layer.needs_text_tools = !layer.reads_calls();
        Ok(layer)
    }

    /// Text of the BOS token; empty where there is none.
    pub(super) fn bos(&self) -> &str {
        &self.bos
    }

    /// The capabilities of the template.
    pub(super) fn abilities(&self) -> ChatAbilities {
        let own = self.with_tools().abilities();
        let supports_thinking = self
            .template
            .render(&example(&[]))
            .is_ok_and(|r| r.supports_thinking);
        ChatAbilities {
            native_tools: !self.needs_text_tools,
            parallel_tool_calls: own.supports_parallel_tool_calls || self.needs_text_tools,
            system_role: own.supports_system_role,
            thinking: supports_thinking,
        }
    }

    /// Whether the chat layer finds a format of calls in the model's own template.
    fn reads_calls(&self) -> bool {
        let tool = json!({"type": "function", "function": {"name": "probe", "description": "",
            "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}}});
        let mut request = example(&[tool]);
        request.tool_choice = Some("required");
        let rendered = self.with_tools().render(&request);
        rendered.is_ok_and(|rendered| !rendered.grammar.is_empty())
    }

    /// The template for requests with tools.
    fn with_tools(&self) -> &Chat {
        self.tool_template.as_ref().unwrap_or(&self.template)
    }

    /// The template that defines the format of calls.
    fn call_template(&self) -> &Chat {
        if self.needs_text_tools {
            &self.text_tools
        } else {
            self.with_tools()
        }
    }

    /// Renders a conversation up to where the assistant continues.
    ///
    /// # Errors
    /// `InvalidArgs` where the template refuses the messages, `InvalidSchema` naming the
    /// tool where one has parameters that the layer cannot use.
    pub(super) fn render(
        &self,
        request: &GenerateRequest,
        messages: &[Message],
        tools: &[Value],
    ) -> Result<ChatPrompt, Failure> {
        if self.needs_text_tools && !tools.is_empty() {
            return self.render_text_tools(request, messages, tools);
        }
        let mut render = render_request(request, tools);
        render.messages = messages.iter().map(as_openai).collect();
        let template = match tools {
            [] => &self.template,
            _ => self.with_tools(),
        };
        let rendered = template.render(&render).or_else(|error| {
            // Try tool results as text instead of in their own role.
            let folded = text_tools::fold(messages, &[]);
            if folded == messages {
                return Err(error);
            }
            render.messages = folded.iter().map(as_openai).collect();
            template.render(&render).map_err(|_| error)
        });
        let rendered = rendered.or_else(|error| {
            // The layer translates the shown tools, too, which fails for some patterns.
            let simple: Vec<Value> = render.tools.iter().map(relaxed_tool).collect();
            if simple == render.tools {
                return Err(error);
            }
            render.tools = simple;
            template.render(&render).map_err(|_| error)
        });
        let rendered = rendered.map_err(|error| self.refused(&error, tools))?;
        ChatPrompt::new(&rendered, &rendered, request)
    }

    /// As [`Self::render`], for a template without tool support: the system prompt
    /// describes the tools, and calls are parsed in the format that it describes.
    fn render_text_tools(
        &self,
        request: &GenerateRequest,
        messages: &[Message],
        tools: &[Value],
    ) -> Result<ChatPrompt, Failure> {
        let mut render = render_request(request, &[]);
        let folded = text_tools::fold(messages, &shown_tools(tools));
        render.messages = folded.iter().map(as_openai).collect();
        let rendered = self.template.render(&render);
        let rendered = rendered.map_err(|error| self.refused(&error, &[]))?;
        let reading = self.text_tools.render(&example(&bound_tools(tools)));
        let mut reading = reading.map_err(|error| self.refused(&error, tools))?;
        // Where the model's own template has opened the reasoning, the answer closes it.
        let start = &rendered.thinking_start_tag;
        if let Some(at) = rendered.generation_prompt.rfind(start)
            && start == text_tools::THINKING_START
        {
            let begun = &rendered.generation_prompt[at..];
            reading.generation_prompt.push_str(begun);
        }
        ChatPrompt::new(&rendered, &reading, request)
    }

    /// The grammar of calls of these tools.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub(super) fn call_grammar(
        &self,
        request: &GenerateRequest,
        tools: &[Value],
        prompt: &ChatPrompt,
    ) -> Result<Option<CallGrammar>, Failure> {
        let is_forced = match &request.tool_choice {
            ToolChoice::None => return Ok(None),
            ToolChoice::Auto => false,
            ToolChoice::Required | ToolChoice::Named(_) => true,
        };
        let mut tools = bound_tools(tools);
        if let ToolChoice::Named(name) = &request.tool_choice {
            tools.retain(|tool| tool["function"]["name"] == **name);
        }
        if tools.is_empty() {
            return Ok(None);
        }
        let one_call = request.one_call || matches!(request.tool_choice, ToolChoice::Named(_));
        let mut render = example(&tools);
        render.tool_choice = Some("required");
        render.parallel_tool_calls = !one_call;
        let rendered = self.call_template().render(&render);
        let rendered = rendered.map_err(|error| self.refused(&error, &tools))?;
        let is_lenient = request.call_mode == Some(CallMode::Lenient);
        let bare = if is_lenient && !is_forced && !prompt.triggers.is_empty() {
            let rendered = self.text_tools.render(&render);
            Some(rendered.map_err(|error| self.refused(&error, &tools))?)
        } else {
            None
        };
        Ok((!rendered.grammar.is_empty()).then(|| CallGrammar {
            gbnf: rendered.grammar,
            triggers: prompt.triggers.clone(),
            controls: prompt.controls.clone(),
            is_forced,
            one_call,
            bare: bare.map(|bare| BareCalls {
                gbnf: bare.grammar,
                marks: text_tools::MARKS.map(str::to_owned),
            }),
        }))
    }

    /// The common prefix of all conversations with these system messages and tools: the
    /// text up to the first difference between the prompts of two questions, without
    /// whitespace at its end, which many tokenizers merge with the question. `None` where
    /// there is nothing worth caching: no system message and no tools, or a template that
    /// refuses them.
    pub(super) fn stable_prefix(
        &self,
        request: &GenerateRequest,
        messages: &[Message],
        tools: &[Value],
    ) -> Option<String> {
        let system = messages.iter().take_while(|m| m.role == "system").count();
        let shared = request.shared_messages.map_or(system, |n| n as usize);
        let system: Vec<Message> = messages.iter().take(shared).cloned().collect();
        if system.is_empty() && tools.is_empty() {
            return None;
        }
        let minute = request.accepted_unix_s / 60;
        let shape = (
            &system,
            tools,
            request.thinking,
            &request.chat_template_kwargs,
            minute,
        );
        let key = serde_json::to_string(&shape).ok()?;
        let mut known = self.beginnings.borrow_mut();
        if let Some((_, prefix)) = known.iter().find(|(other, _)| *other == key) {
            return prefix.clone();
        }
        let render = |question: &str| {
            let mut messages = system.clone();
            messages.push(Message::user(question));
            self.render(request, &messages, tools).ok()
        };
        let prefix = match PROBES.map(render) {
            [Some(first), Some(second)] => common_text(&first.text, &second.text),
            _ => None,
        };
        if known.len() == BEGINNINGS_MAX {
            known.remove(0);
        }
        known.push((key, prefix.clone()));
        prefix
    }

    /// Finds the cause of a refusal: tries each tool by itself, which takes time only in
    /// the error case.
    fn refused(&self, error: &ChatError, tools: &[Value]) -> Failure {
        let template = self.call_template();
        for tool in tools {
            if let Err(error) = template.render(&example(&bound_tools(std::slice::from_ref(tool))))
            {
                let name = tool["function"]["name"].as_str().unwrap_or_default();
                return invalid_tool(name, &reason(&error));
            }
        }
        Failure::invalid(format!(
            "the model's chat template refuses these messages: {}",
            reason(error)
        ))
    }
}

fn common_text(first: &str, second: &str) -> Option<String> {
    let common = common_prefix(first.chars(), second.chars());
    let common: String = first.chars().take(common).collect();
    let common = common.trim_end();
    (!common.is_empty()).then(|| common.to_owned())
}
