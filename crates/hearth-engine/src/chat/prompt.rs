//! A rendered prompt, and how its answer is constrained and parsed.

use hearth_constraint::ReasoningTags;
use hearth_proto::{CallMode, Failure, FailureKind, GenerateRequest, Prompt, ReasoningFormat};

use crate::answer::{AnswerReader, KeptReasoning};
use crate::chat_shim::{ChatError, Parser, Rendered, Trigger};

/// A prompt, and how its answer is constrained and parsed.
#[derive(Debug)]
pub(crate) struct ChatPrompt {
    /// Text for the model.
    pub(crate) text: String,
    /// The reasoning tags, where the model may reason.
    pub(crate) reasoning: Option<ReasoningTags>,
    /// Control tokens that are text of the answer.
    pub(crate) controls: Vec<String>,
    /// Stop strings of the template.
    pub(crate) stops: Vec<String>,
    /// Texts that begin a call.
    pub(super) triggers: Vec<String>,
    /// Parses the answer.
    pub(crate) reader: AnswerReader,
    /// The last part of `text`, which belongs to the answer.
    pub(crate) generation_prompt: String,
}

impl ChatPrompt {
    /// From the rendered prompt, and the rendering that defines how its answer is parsed.
    pub(super) fn new(
        rendered: &Rendered,
        reading: &Rendered,
        request: &GenerateRequest,
    ) -> Result<Self, Failure> {
        let failed = |error: ChatError| Failure::new(FailureKind::Internal, error.to_string());
        let parser = Parser::new(reading).map_err(failed)?;
        let triggers: Vec<String> = reading
            .grammar_triggers
            .iter()
            .filter_map(|trigger| match trigger {
                Trigger::Word(word) => {
                    Some(word.trim_end().to_owned()).filter(|word| !word.is_empty())
                }
                Trigger::Pattern(_) => None,
            })
            .collect();
        let reasoning = reasoning(rendered, &triggers);
        let ends = reasoning.as_ref().map(|tags| tags.ends.clone());
        let has_tools = matches!(&request.prompt, Prompt::Chat { tools, .. } if !tools.is_empty());
        let is_lenient = has_tools && request.call_mode == Some(CallMode::Lenient);
        let reader = AnswerReader::chat(parser, ends.unwrap_or_default(), request.one_call)
            .lenient(is_lenient)
            .keeping(kept_reasoning(request, reasoning.as_ref()));
        let controls = [rendered, reading]
            .map(|r| r.preserved_tokens.as_slice())
            .concat();
        Ok(Self {
            text: rendered.prompt.clone(),
            reasoning,
            controls,
            stops: rendered.additional_stops.clone(),
            reader: if request.continue_final_message {
                reader.continuing()
            } else {
                reader
            },
            generation_prompt: rendered.generation_prompt.clone(),
            triggers,
        })
    }
}

/// How the reasoning is written into the text, where the request wants it there.
fn kept_reasoning(
    request: &GenerateRequest,
    tags: Option<&ReasoningTags>,
) -> Option<KeptReasoning> {
    let tags = tags.filter(|_| request.reasoning_format != ReasoningFormat::Deepseek)?;
    let trimmed = |tag: &str| tag.trim().to_owned();
    Some(KeptReasoning {
        start: trimmed(&tags.start),
        end: tags
            .ends
            .first()
            .map_or_else(String::new, |end| trimmed(end)),
        is_apart_too: request.reasoning_format == ReasoningFormat::DeepseekLegacy,
    })
}

fn reasoning(rendered: &Rendered, triggers: &[String]) -> Option<ReasoningTags> {
    if !rendered.supports_thinking || rendered.thinking_end_tags.is_empty() {
        return None;
    }
    let start = rendered.thinking_start_tag.clone();
    let is_call = |end: &String| triggers.iter().any(|t| t.starts_with(end.as_str()));
    let (answers, ends): (Vec<_>, Vec<_>) = rendered
        .thinking_end_tags
        .iter()
        .cloned()
        .partition(is_call);
    // Reasoning that the template itself has opened, and perhaps closed.
    let opened = (!start.is_empty())
        .then(|| rendered.generation_prompt.rfind(&start))
        .flatten();
    let begun = opened.map(|at| &rendered.generation_prompt[at + start.len()..]);
    let is_open = begun.is_some_and(|rest| !ends.iter().any(|end| rest.contains(end.as_str())));
    if begun.is_some() && !is_open {
        return None;
    }
    Some(ReasoningTags {
        start,
        ends,
        answers,
        is_open,
    })
}
