//! Fields of chats that llama-server has beside OpenAI's.

use hearth_proto::{Failure, GenerateRequest, ReasoningFormat};
use serde::Deserialize;
use serde::de::Error;
use serde_json::{Map, Value};

use crate::read::read;
use crate::scalars::Integer;
use crate::shape::{Shape, deserialize_by_shape, refusal};

#[derive(Debug, Deserialize)]
struct ExtraFields {
    n_predict: Option<Integer>,
    reasoning_format: Option<Format>,
}

/// Where the reasoning is.
#[derive(Debug)]
struct Format(ReasoningFormat);

deserialize_by_shape!(Format);

impl Shape<'_> for Format {
    const WHAT: &'static str = "must be \"auto\", \"deepseek\", \"deepseek-legacy\" or \"none\"";

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        match word {
            "auto" | "deepseek" => Ok(Self(ReasoningFormat::Deepseek)),
            "deepseek-legacy" => Ok(Self(ReasoningFormat::DeepseekLegacy)),
            "none" => Ok(Self(ReasoningFormat::None)),
            _ => Err(refusal::<Self, E>()),
        }
    }
}

/// Applies the fields to a request. `n_predict` is `max_tokens` where that is missing; below 0
/// there is no bound.
///
/// # Errors
/// `InvalidArgs` naming the field.
pub(super) fn apply(
    body: &Map<String, Value>,
    request: &mut GenerateRequest,
) -> Result<(), Failure> {
    let fields: ExtraFields = read(body)?;
    if let Some(Integer(n)) = fields.n_predict {
        if n == 0 {
            let what = "must be at least 1, or -1 for no bound";
            return Err(Failure::invalid_field("n_predict", what));
        }
        let most = u32::try_from(n).unwrap_or(u32::MAX);
        request.max_tokens.get_or_insert(most);
    }
    if let Some(Format(format)) = fields.reasoning_format {
        request.reasoning_format = format;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(body: &Value) -> Result<GenerateRequest, Failure> {
        let mut request = GenerateRequest {
            max_tokens: body["max_tokens"].as_u64().and_then(|n| n.try_into().ok()),
            ..GenerateRequest::default()
        };
        apply(body.as_object().unwrap(), &mut request)?;
        Ok(request)
    }

    #[test]
    fn n_predict_is_a_bound() {
        for (body, most) in [
            (json!({}), None),
            (json!({"n_predict": 7}), Some(7)),
            (json!({"n_predict": -1}), Some(u32::MAX)),
            (json!({"n_predict": 7, "max_tokens": 3}), Some(3)),
        ] {
            assert_eq!(applied(&body).unwrap().max_tokens, most, "{body}");
        }
    }

    #[test]
    fn reasoning_formats_are_read() {
        for (word, format) in [
            (json!(null), ReasoningFormat::Deepseek),
            (json!("auto"), ReasoningFormat::Deepseek),
            (json!("deepseek"), ReasoningFormat::Deepseek),
            (json!("deepseek-legacy"), ReasoningFormat::DeepseekLegacy),
            (json!("none"), ReasoningFormat::None),
        ] {
            let body = json!({"reasoning_format": word});
            assert_eq!(applied(&body).unwrap().reasoning_format, format, "{body}");
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (body, field) in [
            (json!({"n_predict": 0}), "n_predict"),
            (json!({"n_predict": "x"}), "n_predict"),
            (json!({"reasoning_format": "other"}), "reasoning_format"),
            (json!({"reasoning_format": 1}), "reasoning_format"),
        ] {
            let failure = applied(&body).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some(field), "{body}");
        }
    }
}
