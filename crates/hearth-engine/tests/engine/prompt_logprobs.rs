//! The probabilities of a prompt's tokens.

use hearth_proto::{Command, Event, GenerateRequest, Prompt, PromptPart, TokenLogprob};

use crate::harness::{Engine, request, tiny_model};

/// The probabilities of the tokens of a prompt and of its answer, and the answer's tokens.
fn measured(
    engine: &mut Engine,
    request: GenerateRequest,
) -> (Vec<TokenLogprob>, Vec<TokenLogprob>) {
    let (mut prompt, mut answer) = (Vec::new(), Vec::new());
    engine.send(&Command::Generate(request));
    loop {
        match engine.next() {
            Event::Prefill { logprobs, .. } => prompt.extend(logprobs),
            Event::Token { logprobs, .. } => answer.extend(logprobs),
            Event::Finished { .. } => return (prompt, answer),
            Event::Failed { failure, .. } => panic!("{failure}"),
            _ => {}
        }
    }
}

fn wanted(id: u64, parts: Vec<PromptPart>, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        logprobs: Some(2),
        max_tokens: Some(max_tokens),
        ..request(id, Prompt::Mixed(parts))
    }
}

#[test]
fn a_prompts_tokens_have_the_probabilities_that_they_have_in_an_answer() {
    let mut engine = Engine::with_model(tiny_model());
    // Longer than a part whose probabilities are computed at once.
    let text = "The boiler was serviced in May, and the next service is due in two years.";
    let before = PromptPart::Text(text.into());
    let (nothing, answer) = measured(&mut engine, wanted(1, vec![before.clone()], 12));
    assert!(nothing.is_empty() && answer.len() == 12);

    let ids: Vec<i32> = answer.iter().map(|token| token.id).collect();
    let after = PromptPart::Tokens(ids);
    let request = GenerateRequest {
        prompt_logprobs: true,
        ..wanted(2, vec![before, after], 1)
    };
    let (prompt, _) = measured(&mut engine, request);
    assert!(prompt[0].logprob == 0.0 && prompt[0].top.is_empty());
    let (_, again) = prompt.split_at(prompt.len() - answer.len());
    for (one, other) in answer.iter().zip(again) {
        assert_eq!((&one.bytes, one.id), (&other.bytes, other.id));
        let difference = (one.logprob - other.logprob).abs();
        assert!(difference < 0.05, "{one:?} {other:?}");
        assert_eq!(one.top[0].0, other.top[0].0);
    }
    // Those of the text: no token is certain, and together they are its bytes.
    let bytes: Vec<u8> = prompt
        .iter()
        .flat_map(|token| token.bytes.clone())
        .collect();
    assert!(String::from_utf8_lossy(&bytes).contains(text));
    assert!(prompt[1..].iter().all(|token| token.logprob < 0.0));
}
