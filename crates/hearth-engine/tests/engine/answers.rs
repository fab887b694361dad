//! Answers of models of random weights: repeatable, bounded, constrained.

use hearth_proto::{
    Biased, Command, Constraint, Event, FailureKind, FinishReason, GenerateRequest, KvType,
    Message, Overflow, Prompt, Sampling,
};

use crate::harness::{Engine, chat, load, request, text_of, tiny_model};

pub fn first(max_tokens: u32, request: GenerateRequest) -> GenerateRequest {
    GenerateRequest {
        max_tokens: Some(max_tokens),
        ..request
    }
}

#[test]
fn greedy_and_seeded_answers_repeat() {
    let mut engine = Engine::with_model(tiny_model());
    let greedy = engine.ask(first(40, chat(1, "Hello"))).text;
    assert!(!greedy.is_empty());
    assert_eq!(engine.ask(first(40, chat(2, "Hello"))).text, greedy);
    let mut sampled = |id, seed| {
        let sampling = Sampling {
            temperature: Some(1.5),
            top_k: Some(100),
            top_p: Some(0.95),
            min_p: Some(0.01),
            repeat_penalty: Some(1.1),
            seed: Some(seed),
            ..Sampling::default()
        };
        engine
            .ask(first(
                40,
                GenerateRequest {
                    sampling,
                    ..chat(id, "Hello")
                },
            ))
            .text
    };
    let one = sampled(3, 7);
    assert_eq!(sampled(4, 7), one);
    assert_ne!(sampled(5, 8), one);
    let sampling = Sampling {
        temperature: Some(-1.0),
        ..Sampling::default()
    };
    let refused = engine.ask(GenerateRequest {
        sampling,
        ..chat(6, "Hello")
    });
    assert_eq!(refused.failure().kind, FailureKind::InvalidArgs);
}

#[test]
fn max_tokens_stop_strings_and_the_end_of_the_context() {
    let mut engine = Engine::start(&[]);
    let mut wanted = load(tiny_model());
    wanted.context_size = 256;
    wanted.kv_type = KvType::Q8_0;
    let info = engine.load(&wanted).unwrap();
    let answer = engine.ask(first(5, chat(1, "Hi")));
    assert_eq!((answer.tokens, answer.reason()), (5, FinishReason::Length));
    // Random weights: whatever the answer is, its second half as a stop string must end
    // it.
    let text = engine.ask(first(20, chat(2, "Hi"))).text;
    let middle = text.char_indices().nth(text.chars().count() / 2).unwrap().0;
    let stop = text[middle..].to_owned();
    let before = text[..text.find(&stop).unwrap()].to_owned();
    let stopped = engine.ask(first(
        40,
        GenerateRequest {
            stop: vec![stop],
            ..chat(3, "Hi")
        },
    ));
    assert_eq!(
        (stopped.text, stopped.end.unwrap().unwrap().0),
        (before, FinishReason::Stop)
    );

    let answer = engine.ask(chat(4, "Hi"));
    if answer.reason() == FinishReason::Length {
        assert_eq!(answer.prompt_tokens + answer.tokens, info.context_size);
    }
    let long = engine.ask(request(5, Prompt::Text("z".repeat(300))));
    assert_eq!(long.failure().kind, FailureKind::ContextTooLong);
    let message = &long.failure().message;
    assert!(
        message.contains("has 300 tokens") && message.contains("holds 256"),
        "{message}"
    );
    // Just below the limit works.
    let full = engine.ask(request(6, Prompt::Text("z".repeat(255))));
    assert_eq!((full.prompt_tokens, full.tokens), (255, 1));
}

/// The answer's tokens, as the daemon would keep them for another engine.
fn tokens_of(engine: &mut Engine, request: GenerateRequest) -> (Vec<i32>, Vec<String>) {
    let (mut tokens, mut texts) = (Vec::new(), Vec::new());
    engine.send(&Command::Generate(request));
    loop {
        match engine.next() {
            Event::Token {
                parts,
                tokens: more,
                ..
            } => {
                tokens.extend(more);
                texts.push(text_of(&parts));
            }
            Event::Finished { .. } => return (tokens, texts),
            Event::Failed { failure, .. } => panic!("{failure}"),
            _ => {}
        }
    }
}

#[test]
fn another_engine_goes_on_where_the_first_one_was() {
    let sampling = Sampling {
        // Low enough that another order of summation does not change the choice in a near
        // tie.
        temperature: Some(0.3),
        repeat_penalty: Some(1.1),
        seed: Some(11),
        ..Sampling::default()
    };
    let request = |id, resume: &[i32]| {
        first(
            40,
            GenerateRequest {
                sampling: sampling.clone(),
                resume: resume.to_vec(),
                ..chat(id, "Tell me a story")
            },
        )
    };
    let (tokens, texts) = tokens_of(&mut Engine::with_model(tiny_model()), request(1, &[]));
    let whole = texts.concat();
    for cut in [1, 17, tokens.len() - 1] {
        let mut second = Engine::with_model(tiny_model());
        let (rest, more) = tokens_of(&mut second, request(2, &tokens[..cut]));
        assert_eq!(rest, tokens[cut..], "after {cut}");
        assert_eq!(texts[..cut].concat() + &more.concat(), whole, "after {cut}");
    }
    // All of it was sent already: only the end is missing.
    let mut second = Engine::with_model(tiny_model());
    assert!(tokens_of(&mut second, request(3, &tokens)).0.is_empty());
}

#[test]
fn constrained_answers_are_valid_whatever_the_model_thinks() {
    let mut engine = Engine::with_model(tiny_model());
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "room": {"enum": ["kitchen", "bathroom"]},
            "brightness": {"type": "integer", "minimum": 0, "maximum": 100},
            "on": {"type": "boolean"},
        },
        "required": ["room", "brightness", "on"],
        "additionalProperties": false,
    });
    for (id, temperature) in [(1, 0.0), (2, 1.5), (3, 1.5)] {
        let (tokens, texts) = tokens_of(
            &mut engine,
            first(
                200,
                GenerateRequest {
                    constraint: Some(Constraint::JsonSchema(schema.clone())),
                    sampling: Sampling {
                        temperature: Some(temperature),
                        seed: Some(u32::try_from(id).unwrap()),
                        ..Sampling::default()
                    },
                    ..chat(id, "Light")
                },
            ),
        );
        let answer: serde_json::Value = serde_json::from_str(&texts.concat()).unwrap();
        assert!(["kitchen", "bathroom"].contains(&answer["room"].as_str().unwrap()));
        assert!(answer["brightness"].as_u64().unwrap() <= 100);
        assert!(answer["on"].is_boolean());
        // Forced tokens need no decode of their own.
        assert!(
            texts.len() * 2 < tokens.len(),
            "{} {}",
            texts.len(),
            tokens.len()
        );
    }
    let bad = engine.ask(GenerateRequest {
        constraint: Some(Constraint::JsonSchema(serde_json::json!({"type": "thing"}))),
        ..chat(4, "x")
    });
    assert_eq!(bad.failure().kind, FailureKind::InvalidSchema);
    let regex = engine.ask(GenerateRequest {
        constraint: Some(Constraint::Regex("[a-c]{3}-[0-9]{2}".into())),
        ..chat(5, "x")
    });
    let text = regex.text.as_bytes();
    assert!(text.len() == 6 && text[3] == b'-', "{}", regex.text);
    assert_eq!(regex.reason(), FinishReason::Stop);
}

#[test]
fn probabilities_are_reported_and_biases_count() {
    let mut engine = Engine::with_model(tiny_model());
    let greedy = |id| {
        first(
            3,
            GenerateRequest {
                logprobs: Some(4),
                ..chat(id, "Hello")
            },
        )
    };
    engine.send(&Command::Generate(greedy(1)));
    let Event::Token {
        tokens, logprobs, ..
    } = engine.until(|e| matches!(e, Event::Token { .. }))
    else {
        panic!("no token");
    };
    let one = &logprobs[0];
    assert_eq!((one.top.len(), &one.top[0].0), (4, &one.bytes));
    assert!(one.logprob < 0.0 && (one.logprob - one.top[0].1).abs() < 1e-6);
    assert!(one.top.iter().map(|(_, l)| l.exp()).sum::<f32>() <= 1.0);
    assert!(one.top.is_sorted_by(|a, b| a.1 >= b.1));
    engine.collect(1);

    let mut banned = greedy(2);
    banned.sampling.logit_bias = vec![(Biased::Token(tokens[0]), -100.0)];
    let other = tokens_of(&mut engine, banned).0;
    assert_ne!(other[0], tokens[0]);
    let mut wrong = greedy(3);
    wrong.sampling.logit_bias = vec![(Biased::Token(600), 1.0)];
    let failure = engine.ask(wrong);
    assert!(failure.failure().message.contains("tokens 0 to 599"));
}

#[test]
fn a_long_conversation_can_lose_its_middle() {
    let mut engine = Engine::start(&[]);
    let mut wanted = load(tiny_model());
    wanted.context_size = 512;
    engine.load(&wanted).unwrap();
    let mut messages = vec![message("system", "Be brief.")];
    for n in 0..8 {
        messages.push(message("user", &format!("{n}: {}", "word ".repeat(12))));
        messages.push(message("assistant", "yes"));
    }
    messages.push(message("user", "And now?"));
    let request = |id, overflow| {
        let tools = Vec::new();
        let prompt = Prompt::Chat {
            messages: messages.clone(),
            tools,
        };
        first(
            2,
            GenerateRequest {
                overflow,
                ..request(id, prompt)
            },
        )
    };
    let whole = engine.ask(request(1, Overflow::Error));
    assert_eq!(whole.failure().kind, FailureKind::ContextTooLong);
    let cut = engine.ask(request(2, Overflow::TruncateMiddle));
    assert_eq!(cut.tokens, 2);
    assert!(
        (300..512).contains(&cut.prompt_tokens),
        "{}",
        cut.prompt_tokens
    );
    // A single message that is too long is still refused.
    messages = vec![message("user", &"word ".repeat(200))];
    let alone = Prompt::Chat {
        messages,
        tools: Vec::new(),
    };
    let alone = engine.ask(GenerateRequest {
        overflow: Overflow::TruncateMiddle,
        ..crate::harness::request(3, alone)
    });
    assert_eq!(alone.failure().kind, FailureKind::ContextTooLong);
}

fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.into(),
        ..Message::user(content)
    }
}

#[test]
fn several_answers_at_once_are_those_of_one_after_the_other() {
    let mut wanted = load(tiny_model());
    wanted.slots = 4;
    wanted.kept_tokens = 4096;
    let mut engine = Engine::start(&[]);
    engine.load(&wanted).unwrap();
    let ask = |id: u64| {
        let text = format!("{} question {}", "common beginning ".repeat(8), id % 10);
        first(24, chat(id, &text))
    };
    let alone: Vec<String> = (1..=4).map(|id| engine.ask(ask(id)).text).collect();
    engine.send(&Command::ForgetPrompts { uid: None });
    for id in 11..=14 {
        engine.send(&Command::Generate(ask(id)));
    }
    let together = engine.collect_all(&[11, 12, 13, 14]);
    for (one, other) in alone.iter().zip(&together) {
        assert_eq!(one, &other.text);
    }
    // Those that came later found what the first one had computed.
    assert!(together[1..].iter().all(|a| a.cached_tokens > 100));
    assert_eq!(together[0].cached_tokens, 0);
}
