use hearth_proto::RequestId;
use serde_json::json;

use super::*;

pub(in crate::llama_server) const USAGE: Usage = Usage {
    prompt_tokens: 10,
    cached_tokens: 6,
    completion_tokens: 4,
    reasoning_tokens: 0,
    prefill_ms: 8.0,
    decode_ms: 16.0,
};

pub(in crate::llama_server) fn context(max_tokens: Option<u32>) -> CompletionContext {
    CompletionContext {
        prompt: "p".into(),
        max_tokens,
        is_timed: false,
    }
}

fn tell(answer: &Answer, context: &CompletionContext, form: &CompletionForm) -> Value {
    let settings = json!({"n_predict": 4});
    completion_response(2, answer, context, settings, form)
}

fn answer(reason: FinishReason) -> Answer {
    Answer {
        content: "x\n".into(),
        tokens: vec![7, 8],
        reason,
        usage: USAGE,
        ..Answer::new(RequestId(1), "m")
    }
}

#[test]
fn fields_are_those_of_llama_server() {
    let form = CompletionForm::default();
    let told = tell(&answer(FinishReason::Length), &context(Some(4)), &form);
    let expected = json!({
        "index": 2, "content": "x\n", "tokens": [], "id_slot": -1, "stop": true, "model": "m",
        "tokens_predicted": 4, "tokens_evaluated": 10,
        "generation_settings": {"n_predict": 4}, "prompt": "p", "has_new_line": true,
        "truncated": false, "stop_type": "limit", "stopping_word": "", "tokens_cached": 6,
        "timings": {
            "cache_n": 6,
            "prompt_n": 4, "prompt_ms": 8.0, "prompt_per_token_ms": 2.0,
            "prompt_per_second": 500.0,
            "predicted_n": 4, "predicted_ms": 16.0, "predicted_per_token_ms": 16.0 / 3.0,
            "predicted_per_second": 187.5,
        },
    });
    assert_eq!(told, expected);
}

#[test]
fn an_answer_tells_why_it_ended() {
    let form = CompletionForm::default();
    let word = Answer {
        stop_string: Some("END".into()),
        ..answer(FinishReason::Stop)
    };
    for (answer, max_tokens, stop_type, stopping_word, truncated) in [
        (answer(FinishReason::Stop), None, "eos", "", false),
        (word, None, "word", "END", false),
        (answer(FinishReason::Length), Some(4), "limit", "", false),
        // The context was full.
        (answer(FinishReason::Length), Some(9), "limit", "", true),
        (answer(FinishReason::Length), None, "limit", "", true),
    ] {
        let told = tell(&answer, &context(max_tokens), &form);
        assert_eq!(told["stop_type"], stop_type);
        assert_eq!(told["stopping_word"], stopping_word);
        assert_eq!(told["truncated"], truncated, "{max_tokens:?}");
    }
}

#[test]
fn response_fields_choose_and_return_tokens_adds() {
    let form = CompletionForm {
        return_tokens: true,
        response_fields: ["tokens", "generation_settings/n_predict", "none"]
            .map(str::to_owned)
            .into(),
        ..CompletionForm::default()
    };
    let told = tell(&answer(FinishReason::Stop), &context(None), &form);
    assert_eq!(
        told,
        json!({"tokens": [7, 8], "generation_settings/n_predict": 4})
    );
}

#[test]
fn an_answer_that_is_not_wanted_is_empty() {
    let form = CompletionForm {
        return_tokens: true,
        is_empty: true,
        ..CompletionForm::default()
    };
    let told = tell(&answer(FinishReason::Length), &context(Some(1)), &form);
    let shown = ["content", "tokens", "tokens_predicted"].map(|name| told[name].clone());
    assert_eq!(shown, [json!(""), json!([]), json!(0)]);
}

fn token() -> TokenLogprob {
    TokenLogprob {
        id: 7,
        bytes: b"a".to_vec(),
        logprob: -0.5,
        top: vec![(b"a".to_vec(), -0.5), (b"\xc3".to_vec(), -1.0)],
        top_ids: vec![7, 9],
    }
}

#[test]
fn probabilities_have_the_numbers_of_tokens() {
    let answer = Answer {
        logprobs: vec![token()],
        ..answer(FinishReason::Stop)
    };
    let form = CompletionForm::default();
    let told = tell(&answer, &context(None), &form);
    let expected = json!([{
        "id": 7, "token": "a", "bytes": [97], "logprob": -0.5,
        "top_logprobs": [
            {"id": 7, "token": "a", "bytes": [97], "logprob": -0.5},
            {"id": 9, "token": "\u{fffd}", "bytes": [0xc3], "logprob": -1.0},
        ],
    }]);
    assert_eq!(told["completion_probabilities"], expected);
}
