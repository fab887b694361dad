//! Prompts that are only rendered, and prompts of tokens.

use hearth_proto::{Command, Event, FailureKind, GenerateRequest, Prompt, PromptPart, RequestId};
use serde_json::json;

use crate::answers::first;
use crate::harness::{Engine, chat, request, tiny_model};

fn render(engine: &mut Engine, request: GenerateRequest) -> (String, Vec<i32>) {
    engine.send(&Command::Render(Box::new(request)));
    match engine.next() {
        Event::Rendered { text, tokens, .. } => (text, tokens),
        other => panic!("{other:?}"),
    }
}

/// The tokens of a text, with the one that begins it.
pub fn tokens_of(engine: &mut Engine, text: &str) -> Vec<i32> {
    engine.send(&Command::Tokenize {
        id: RequestId(1),
        text: text.into(),
        bos: true,
        plain: false,
        pieces: false,
    });
    match engine.next() {
        Event::Tokenized { tokens, .. } => tokens,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rendered_prompt_is_the_one_that_is_computed() {
    let mut engine = Engine::with_model(tiny_model());
    let mut request = chat(1, "What is the weather?");
    let Prompt::Chat { tools, .. } = &mut request.prompt else {
        panic!()
    };
    tools.push(
        json!({"type": "function", "function": {"name": "forecast", "description": "d",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}}),
    );
    let (text, tokens) = render(&mut engine, request.clone());
    assert!(
        text.contains("forecast") && text.contains("What is the weather?"),
        "{text}"
    );
    assert_eq!(tokens, tokens_of(&mut engine, &text));
    let answer = engine.ask(first(1, request.clone()));
    assert_eq!(answer.prompt_tokens as usize, tokens.len());
    assert_eq!(answer.cached_tokens, 0);

    request.prompt = Prompt::Text("plain".into());
    let (text, tokens) = render(&mut engine, request);
    assert_eq!((text.as_str(), tokens.len()), ("plain", 5));
}

#[test]
fn a_prompt_longer_than_the_context_is_rendered() {
    let mut engine = Engine::with_model(tiny_model());
    let long = chat(1, &"word ".repeat(1000));
    let (_, tokens) = render(&mut engine, long.clone());
    assert!(tokens.len() >= 5000, "{}", tokens.len());
    let refused = engine.ask(long);
    assert_eq!(refused.failure().kind, FailureKind::ContextTooLong);
    engine.send(&Command::Render(Box::new(chat(2, &"x".repeat(2_000_000)))));
    assert!(matches!(engine.next(), Event::Failed { .. }));
}

#[test]
fn texts_and_tokens_are_one_prompt() {
    let mut engine = Engine::with_model(tiny_model());
    let tokens = tokens_of(&mut engine, "Once upon a time");
    let whole = engine.ask(first(
        8,
        request(1, Prompt::Text("Once upon a time".into())),
    ));
    let as_tokens = engine.ask(first(8, request(2, Prompt::tokens(tokens.clone()))));
    assert_eq!(as_tokens.text, whole.text);
    assert_eq!(as_tokens.prompt_tokens as usize, tokens.len());
    // One token for each byte.
    let parts = vec![
        PromptPart::Text("Once ".into()),
        PromptPart::Tokens(tokens[5..10].to_vec()),
        PromptPart::Text("a time".into()),
    ];
    let mixed = request(3, Prompt::Mixed(parts));
    assert_eq!(
        render(&mut engine, mixed.clone()),
        ("Once upon a time".into(), tokens)
    );
    assert_eq!(engine.ask(first(8, mixed)).text, whole.text);
}

#[test]
fn tokens_that_the_model_lacks_are_refused() {
    let mut engine = Engine::with_model(tiny_model());
    for token in [-1, 1_000_000, i32::MIN] {
        let refused = engine.ask(request(1, Prompt::tokens(vec![97, token])));
        let failure = refused.failure();
        assert_eq!(failure.kind, FailureKind::InvalidArgs, "{failure}");
        assert_eq!(failure.field.as_deref(), Some("prompt"));
    }
    let refused = engine.ask(request(2, Prompt::tokens(Vec::new())));
    assert_eq!(refused.failure().kind, FailureKind::InvalidArgs);
    let refused = engine.ask(request(3, Prompt::tokens(vec![97; 5000])));
    assert_eq!(refused.failure().kind, FailureKind::ContextTooLong);
}
