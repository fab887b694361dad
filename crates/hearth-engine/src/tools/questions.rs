//! Asks questions whose right answers are known, with greedy sampling.

use hearth_proto::{
    Accuracy, AnswerPart, Failure, GenerateRequest, Limits, Prompt, Question, RequestId, Sampling,
};

use super::answer::ask;
use crate::backend::Backend;
use crate::worker::Worker;

/// The longest answer in tokens: the expected answer is a word or a call.
const ANSWER_TOKENS_MAX: u32 = 96;

/// Whether an answer is right: its text contains one of the accepted texts and none of
/// the rejected ones, ignoring case; or it is the one accepted call, and nothing else is
/// called.
pub fn is_right(question: &Question, answer: &[AnswerPart]) -> bool {
    if let Some(wanted) = &question.accept_call {
        let calls = answer.iter().filter_map(|part| match part {
            AnswerPart::ToolCall(call) => Some(call),
            AnswerPart::Content(_) | AnswerPart::Reasoning(_) => None,
        });
        let [call] = calls.collect::<Vec<_>>()[..] else {
            return false;
        };
        return wanted["name"] == call.name.as_str() && wanted["arguments"] == call.arguments;
    }
    let text = answer.iter().filter_map(AnswerPart::content);
    let answer = text.collect::<String>().to_lowercase();
    let holds = |text: &String| answer.contains(&text.to_lowercase());
    question.accept.iter().any(holds) && !question.reject.iter().any(holds)
}

/// Asks all of them, one after another.
pub(super) fn answer_all<B: Backend>(
    worker: &mut Worker<B>,
    limits: &Limits,
    questions: &[Question],
    report: &mut dyn FnMut(u64),
) -> Result<Accuracy, Failure> {
    let mut accuracy = Accuracy::default();
    for (id, question) in (1..).zip(questions) {
        let request = GenerateRequest {
            id: RequestId(id),
            prompt: Prompt::Chat {
                messages: question.messages.clone(),
                tools: question.tools.clone().unwrap_or_default(),
            },
            sampling: Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            },
            max_tokens: Some(ANSWER_TOKENS_MAX),
            ..GenerateRequest::default()
        };
        let mut parts = Vec::new();
        let mut keep = |part: AnswerPart| {
            parts.push(part);
            Ok(())
        };
        ask(worker, limits, &request, &mut keep)?;
        accuracy.of += 1;
        if is_right(question, &parts) {
            accuracy.right += 1;
        } else {
            accuracy.wrong.push(question.id.clone());
        }
        report(id);
    }
    Ok(accuracy)
}
