use serde_json::json;

use super::*;
use crate::Reports;
use crate::llama_server::completion_response::tests::{USAGE, context};

fn settings(index: usize) -> Value {
    json!({"n_predict": index})
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
fn a_stream_has_parts_and_an_end() {
    let form = CompletionForm {
        reports: Reports {
            timings_per_token: true,
            return_progress: true,
        },
        ..CompletionForm::default()
    };
    let mut stream = CompletionStream::new("m", vec![context(None)], settings, form);
    let at = |done_tokens, generated| Progress {
        prompt_tokens: 10,
        cached_tokens: 6,
        done_tokens,
        generated,
        prompt_ms: 2.0,
        answer_ms: 1.0,
    };
    let told = stream.prompt(0, &at(8, 0));
    assert_eq!(
        told[0]["prompt_progress"],
        json!({"total": 10, "cache": 6, "processed": 8, "time_ms": 2.0})
    );
    assert_eq!(told[0]["timings"]["prompt_n"], 2);
    assert_eq!(
        (&told[0]["content"], &told[0]["stop"]),
        (&json!(""), &json!(false))
    );

    // The first token is half a character.
    stream.advance(0, &at(10, 1), &[7]);
    assert_eq!(stream.token(0, Vec::new(), vec![token()]), [Value::Null; 0]);
    stream.advance(0, &at(10, 2), &[8]);
    let told = stream.token(0, vec![AnswerPart::Content("é\n".into())], vec![token()]);
    assert_eq!(told[0]["content"], "é\n");
    assert_eq!(told[0]["tokens"], json!([7, 8]));
    assert_eq!(told[0]["tokens_predicted"], 2);
    assert_eq!(told[0]["timings"]["predicted_n"], 2);
    assert_eq!(
        told[0]["completion_probabilities"].as_array().map(Vec::len),
        Some(2)
    );
    assert!(told[0].get("prompt_progress").is_none());

    assert!(!stream.is_over());
    stream.stopped_by(0, "END");
    let end = stream.finish(0, FinishReason::Stop, &USAGE);
    assert!(stream.is_over());
    assert_eq!(end[0]["generation_settings"]["n_predict"], 0);
    let shown = ["stop", "content", "stopping_word", "has_new_line", "tokens"];
    let shown = shown.map(|name| end[0][name].clone());
    assert_eq!(
        shown,
        [json!(true), json!(""), json!("END"), json!(true), json!([])]
    );
}

#[test]
fn without_reports_a_stream_has_only_text() {
    let form = CompletionForm::default();
    let mut stream = CompletionStream::new("m", vec![context(None)], settings, form);
    assert_eq!(stream.prompt(0, &Progress::default()), [Value::Null; 0]);
    let told = stream.token(0, vec![AnswerPart::Content("a".into())], Vec::new());
    assert!(told[0].get("timings").is_none(), "{told:?}");
    assert_eq!(stream.token(1, Vec::new(), Vec::new()), [Value::Null; 0]);
}
