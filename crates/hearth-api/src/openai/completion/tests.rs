use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn prompts_are_texts_or_tokens() {
    for (body, text) in [
        (json!({"prompt": "x"}), Ok("x")),
        (
            json!({"prompt": ["x"], "echo": false, "suffix": null}),
            Ok("x"),
        ),
        (json!({"prompt": ["x", "y"]}), Err("several texts")),
        (json!({"prompt": [1, 2]}), Err("token numbers")),
        (json!({"prompt": []}), Err("several texts")),
        (json!({"prompt": [[1]]}), Err("token numbers")),
        (json!({"prompt": 7}), Err("`prompt` must be a string")),
        (json!({}), Err("must be a string")),
        (json!({"prompt": "x", "suffix": ""}), Ok("x")),
        (json!({"prompt": "x", "suffix": 1}), Err("`suffix`")),
        (json!({"prompt": "x", "echo": true}), Err("`echo`")),
        (json!({"prompt": "x", "logprobs": 6}), Err("at most 5")),
        (json!({"prompt": "x", "n_probs": 21}), Err("at most 20")),
    ] {
        match (decode_completion(body.to_string().as_bytes()), text) {
            (Ok(request), Ok(text)) => {
                let prompt = request.submission.request.prompt;
                assert!(matches!(prompt, Prompt::Text(t) if t == text));
            }
            (Err(failure), Err(part)) => {
                assert!(failure.message.contains(part), "{body}: {failure}");
            }
            (result, _) => panic!("{body}: {result:?}"),
        }
    }
}

#[test]
fn a_suffix_makes_an_infill_request() {
    let body = json!({"prompt": "a", "suffix": "z"}).to_string();
    let request = decode_completion(body.as_bytes()).unwrap();
    let expected = Infill {
        prefix: "a".into(),
        suffix: "z".into(),
        prompt: String::new(),
        extra: None,
    };
    assert_eq!(
        request.submission.request.prompt,
        Prompt::Infill(expected.into())
    );
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
    let mut answer = Answer::new(RequestId(1), "m");
    let shown = |answer: &Answer| {
        completion_response(std::slice::from_ref(answer))["choices"][0]["logprobs"].take()
    };
    assert_eq!(shown(&answer), Value::Null);
    answer.wants_logprobs = true;
    let expected = json!({
        "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [],
    });
    assert_eq!(shown(&answer), expected);
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
    let mut stream = CompletionStream::new(&[RequestId(7)], "m", true);
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
