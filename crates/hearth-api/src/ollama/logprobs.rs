//! Probabilities of tokens.

use hearth_proto::TokenLogprob;
use serde::Serialize;

/// A token of an answer. An alternative has no alternatives itself.
#[derive(Serialize)]
pub(super) struct LogprobBody {
    token: String,
    logprob: f32,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    bytes: Vec<u8>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    top_logprobs: Vec<LogprobBody>,
}

/// The `logprobs` of a line.
pub(super) fn bodies(tokens: &[TokenLogprob]) -> Vec<LogprobBody> {
    let token = |token: &TokenLogprob| {
        let top = token.top.iter();
        let top = top.map(|(bytes, logprob)| body(bytes, *logprob, Vec::new()));
        body(&token.bytes, token.logprob, top.collect())
    };
    tokens.iter().map(token).collect()
}

fn body(bytes: &[u8], logprob: f32, top_logprobs: Vec<LogprobBody>) -> LogprobBody {
    LogprobBody {
        token: String::from_utf8_lossy(bytes).into_owned(),
        logprob,
        bytes: bytes.to_vec(),
        top_logprobs,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::encode::value;

    #[test]
    fn logprobs_have_ollamas_form() {
        let tokens = [
            TokenLogprob {
                bytes: b"\xc3".to_vec(),
                logprob: -0.5,
                top: vec![(b"a".to_vec(), -0.25)],
                ..TokenLogprob::default()
            },
            TokenLogprob {
                bytes: b"b".to_vec(),
                logprob: 0.0,
                ..TokenLogprob::default()
            },
        ];
        assert_eq!(
            value(&bodies(&tokens)),
            json!([
                {"token": "\u{fffd}", "logprob": -0.5, "bytes": [0xc3],
                    "top_logprobs": [{"token": "a", "logprob": -0.25, "bytes": [97]}]},
                {"token": "b", "logprob": 0.0, "bytes": [98]},
            ])
        );
    }
}
