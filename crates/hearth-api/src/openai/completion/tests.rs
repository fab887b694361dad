use proptest::prelude::*;
use serde_json::{Value, json};

use hearth_proto::{Answer, AnswerPart, FinishReason, RequestId, TokenLogprob, Usage};

use super::answers::alternatives;
use super::*;
use crate::Chunks as _;

fn decode(body: &Value) -> Result<CompletionRequest, Failure> {
    decode_completion(body.to_string().as_bytes())
}

#[test]
fn prompts_are_texts_or_tokens() {
    let text = |text: &str| Prompt::Text(text.into());
    for (body, expected) in [
        (json!({"prompt": "x"}), vec![text("x")]),
        (
            json!({"prompt": ["x"], "echo": false, "suffix": null}),
            vec![text("x")],
        ),
        (json!({"prompt": ["x", "y"]}), vec![text("x"), text("y")]),
        (json!({"prompt": [1, 2]}), vec![Prompt::tokens(vec![1, 2])]),
        (
            json!({"prompt": [[1], [2, 3]]}),
            vec![Prompt::tokens(vec![1]), Prompt::tokens(vec![2, 3])],
        ),
        (json!({"prompt": "x", "suffix": ""}), vec![text("x")]),
    ] {
        let request = decode(&body).unwrap();
        let prompts = request.submissions.into_iter().map(|s| s.request.prompt);
        assert_eq!(prompts.collect::<Vec<_>>(), expected, "{body}");
    }
}

#[test]
fn errors_name_the_field() {
    for (body, part) in [
        (json!({"prompt": []}), "`prompt` must hold"),
        (json!({"prompt": 7}), "`prompt` must be a string"),
        (json!({"prompt": ["x", 1]}), "`prompt` must be a string"),
        (json!({"prompt": [-1]}), "`prompt[0]`"),
        (json!({"prompt": [[1], ["x"]]}), "`prompt[1][0]`"),
        (json!({}), "`prompt` must be a string"),
        (json!({"prompt": [1], "suffix": "y"}), "`suffix`"),
        (json!({"prompt": "x", "suffix": 1}), "`suffix`"),
        (json!({"prompt": "x", "echo": 1}), "`echo`"),
        (json!({"prompt": "x", "n": 2, "best_of": 1}), "`best_of`"),
        (
            json!({"prompt": "x", "best_of": 2, "stream": true}),
            "`best_of`",
        ),
        (
            json!({"prompt": "x", "echo": true, "logprobs": 1, "stream": true}),
            "`echo`",
        ),
        (json!({"prompt": vec!["x"; 129]}), "more than 128"),
        (json!({"prompt": "x", "max_tokens": 0}), "`max_tokens`"),
        (json!({"prompt": "x", "logprobs": 6}), "at most 5"),
        (json!({"prompt": "x", "n_probs": 21}), "at most 20"),
    ] {
        let failure = decode(&body).unwrap_err();
        assert!(failure.message.contains(part), "{body}: {failure}");
    }
}

#[test]
fn a_suffix_makes_an_infill_request() {
    let request = decode(&json!({"prompt": "a", "suffix": "z"})).unwrap();
    let expected = Infill {
        prefix: "a".into(),
        suffix: "z".into(),
        prompt: String::new(),
        extra: None,
    };
    assert_eq!(
        request.submissions[0].request.prompt,
        Prompt::Infill(expected.into())
    );
}

/// An answer with the probabilities of its prompt and of itself.
fn answer(text: &str, logprob: f32) -> Answer {
    let one = |text: &str, logprob| TokenLogprob {
        logprob,
        ..token(text)
    };
    Answer {
        content: text.into(),
        logprobs: vec![one(text, logprob)],
        prompt_logprobs: vec![one("a", 0.0), one("b", -0.25)],
        usage: Usage {
            prompt_tokens: 2,
            completion_tokens: 1,
            ..Usage::default()
        },
        ..Answer::new(RequestId(1), "m")
    }
}

#[test]
fn an_echo_has_the_probabilities_of_the_prompt() {
    let body = json!({"prompt": "ab", "echo": true, "logprobs": 1, "max_tokens": 0});
    let request = decode(&body).unwrap();
    let generate = &request.submissions[0].request;
    assert!(generate.prompt_logprobs && generate.max_tokens == Some(1));
    let response = completion_response(&[answer("c", -0.5)], &request.form);
    let choice = &response["choices"][0];
    assert_eq!(choice["text"], "ab");
    assert_eq!(choice["logprobs"]["tokens"], json!(["a", "b"]));
    assert_eq!(choice["logprobs"]["token_logprobs"], json!([null, -0.25]));
    assert_eq!(choice["logprobs"]["top_logprobs"][0], Value::Null);
    assert_eq!(choice["logprobs"]["text_offset"], json!([0, 1]));
    // With an answer, and of tokens, whose text comes with them.
    let request = decode(&json!({"prompt": [1, 2], "echo": true, "logprobs": 1})).unwrap();
    let response = completion_response(&[answer("c", -0.5)], &request.form);
    let choice = &response["choices"][0];
    assert_eq!(choice["text"], "abc");
    assert_eq!(
        choice["logprobs"]["token_logprobs"],
        json!([null, -0.25, -0.5])
    );
}

#[test]
fn the_likeliest_answers_to_each_prompt_are_chosen() {
    let body = json!({"prompt": ["x", "y"], "n": 1, "best_of": 2});
    let request = decode(&body).unwrap();
    assert!(
        request
            .submissions
            .iter()
            .all(|s| s.request.logprobs == Some(0))
    );
    let answers = [("a", -2.0), ("b", -1.0), ("c", -1.0), ("d", -2.0)];
    let answers = answers.map(|(text, logprob)| answer(text, logprob));
    let response = completion_response(&answers, &request.form);
    let choices = response["choices"].as_array().unwrap();
    let texts: Vec<&Value> = choices.iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["b", "c"]);
    assert_eq!(choices[1]["index"], 1);
    assert_eq!(choices[0]["logprobs"], Value::Null);
    let usage = &response["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        (&json!(4), &json!(4))
    );
}

#[test]
fn a_stream_echoes_each_prompt_first() {
    let body = json!({"prompt": ["x", "y"], "echo": true, "stream": true});
    let form = decode(&body).unwrap().form;
    let mut stream = CompletionStream::new(&[RequestId(1), RequestId(2)], "m", form);
    let chunks = stream.open();
    let seen: Vec<_> = chunks.iter().map(|c| &c["choices"][0]["text"]).collect();
    assert_eq!(seen, ["x", "y"]);
    assert_eq!(chunks[1]["choices"][0]["index"], 1);
}

fn content(text: &str) -> AnswerPart {
    AnswerPart::Content(text.into())
}

fn token(text: &str) -> TokenLogprob {
    TokenLogprob {
        bytes: text.into(),
        logprob: -0.5,
        top: vec![(text.into(), -0.5), (b"z".to_vec(), -1.5)],
        ..TokenLogprob::default()
    }
}

#[test]
fn an_empty_answer_has_empty_logprobs_if_requested() {
    let answer = Answer::new(RequestId(1), "m");
    let shown = |answer: &Answer, wants_logprobs| {
        let form = CompletionForm {
            n: 1,
            best_of: 1,
            wants_logprobs,
            ..CompletionForm::default()
        };
        completion_response(std::slice::from_ref(answer), &form)["choices"][0]["logprobs"].take()
    };
    assert_eq!(shown(&answer, false), Value::Null);
    let expected = json!({
        "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [],
    });
    assert_eq!(shown(&answer, true), expected);
}

#[test]
fn tokens_with_equal_text_are_all_listed() {
    let twice = TokenLogprob {
        bytes: b"a".to_vec(),
        logprob: -0.1,
        top: vec![
            (b"a".to_vec(), -0.1),
            (b"\xc3".to_vec(), -1.0),
            (b"\xe9".to_vec(), -2.0),
            (b"a".to_vec(), -3.0),
            (b"a".to_vec(), -4.0),
            (Vec::new(), -5.0),
            (Vec::new(), -6.0),
        ],
        ..TokenLogprob::default()
    };
    let expected = json!({
        "a": twice.top[0].1, "bytes:\\xc3": twice.top[1].1, "bytes:\\xe9": twice.top[2].1,
        "bytes:\\x61": twice.top[3].1, "bytes:\\x61#4": twice.top[4].1,
        "": twice.top[5].1, "bytes:": twice.top[6].1,
    });
    assert_eq!(Value::Object(alternatives(&twice)), expected);
}

#[test]
fn logprobs_have_text_offsets() {
    let form = CompletionForm {
        n: 1,
        best_of: 1,
        include_usage: true,
        ..CompletionForm::default()
    };
    let mut stream = CompletionStream::new(&[RequestId(7)], "m", form);
    let first = stream.token(
        0,
        vec![content("\u{e9}t\u{e9}")],
        vec![token("\u{e9}t"), token("\u{e9}")],
    );
    assert_eq!(first[0]["id"], "cmpl-7");
    assert_eq!(first[0]["choices"][0]["text"], "\u{e9}t\u{e9}");
    let logprobs = &first[0]["choices"][0]["logprobs"];
    assert_eq!(logprobs["text_offset"], json!([0, 2]));
    assert_eq!(
        logprobs["top_logprobs"][1],
        json!({"\u{e9}": -0.5, "z": -1.5})
    );
    let second = stream.token(0, vec![content("!")], vec![token("!")]);
    let logprobs = &second[0]["choices"][0]["logprobs"];
    assert_eq!(logprobs["text_offset"], json!([3]));
    assert!(!stream.is_over());
    let last = stream.finish(0, FinishReason::Stop, &Usage::default());
    assert_eq!(last[0]["choices"][0]["finish_reason"], "stop");
    assert_eq!(last[1]["choices"], json!([]));
    assert!(last[1]["usage"].is_object() && stream.is_over());
    assert!(stream.token(1, Vec::new(), Vec::new()).is_empty());
}

proptest! {
    #[test]
    fn arbitrary_bodies_do_not_panic(body in "[\\[\\]{}\":,a-z0-9.e-]{0,60}") {
        _ = decode_completion(body.as_bytes());
    }
}
