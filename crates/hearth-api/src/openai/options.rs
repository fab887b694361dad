//! The options that chats, completions and the turns of a session have in common.

use hearth_proto::{Failure, Overflow, RequestOptions, Sampling, Thinking};
use serde::Deserialize;
use serde::de::Error;
use serde_json::{Map, Value};

use super::bias::LogitBias;
use super::form::FormatFields;
use crate::lora::Loras;
use crate::read::read;
use crate::sampling::{Class, SamplingFields, checked};
use crate::scalars::{Flag, Seed, Stop, Text, Whole, Window};
use crate::shape::{Object, Shape, deserialize_by_shape, refusal};

#[derive(Debug, Deserialize)]
struct OptionFields {
    model: Option<Text>,
    top_k: Option<Whole>,
    repeat_last_n: Option<Window>,
    mirostat: Option<Whole>,
    seed: Option<Seed>,
    logit_bias: Option<LogitBias>,
    /// -1 is no bound, as in llama.cpp's server.
    max_completion_tokens: Option<Window>,
    /// The older name.
    max_tokens: Option<Window>,
    stop: Option<Stop>,
    priority: Option<Class>,
    truncation: Option<Truncation>,
    reproducible: Option<Flag>,
    cache_prompt: Option<Flag>,
    reasoning_effort: Option<Effort>,
    reasoning_budget: Option<Whole>,
    /// As llama-server and vLLM accept them.
    chat_template_kwargs: Option<Object<Map<String, Value>>>,
    shared_messages: Option<Whole>,
    continue_final_message: Option<Flag>,
    /// llama-server's name for the adapters.
    lora: Option<Loras>,
}

/// Decodes the options among the fields of a request.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_options(body: &Map<String, Value>) -> Result<RequestOptions, Failure> {
    let fields: OptionFields = read(body)?;
    let shared: SamplingFields = read(body)?;
    let format: FormatFields = read(body)?;
    let max_tokens = fields.max_completion_tokens.or(fields.max_tokens);
    if max_tokens.is_some_and(|most| most.0 == 0) {
        return Err(Failure::invalid_field("max_tokens", "must be at least 1"));
    }
    let (constraint_field, constraint) = format.constraint()?.unzip();
    let ignore_eos = shared.ignore_eos.map(Into::into);
    let sampling = Sampling {
        top_k: fields.top_k.map(Into::into),
        repeat_last_n: fields.repeat_last_n.map(Into::into),
        mirostat: fields.mirostat.map(Into::into),
        seed: fields.seed.map(Into::into),
        logit_bias: fields.logit_bias.unwrap_or_default().0,
        ..shared.sampling()
    };
    Ok(RequestOptions {
        model: fields.model.map(Into::into),
        sampling: checked(sampling, "")?,
        ignore_eos,
        max_tokens: max_tokens.map(Into::into),
        stop: fields.stop.map(Into::into),
        priority: fields.priority.map(|class| class.0),
        overflow: fields.truncation.map(|truncation| truncation.0),
        reproducible: fields.reproducible.map(Into::into),
        cache_prompt: fields.cache_prompt.map(Into::into),
        constraint,
        constraint_field,
        thinking: fields.reasoning_effort.map(|effort| effort.0),
        reasoning_budget: fields.reasoning_budget.map(Into::into),
        chat_template_kwargs: fields.chat_template_kwargs.map(|kwargs| kwargs.0),
        shared_messages: fields.shared_messages.map(Into::into),
        continue_final_message: fields.continue_final_message.map(Into::into),
        lora: fields.lora.map(Into::into),
    })
}

/// What to do with a conversation that is too long, in the terms of OpenAI's Responses API,
/// where `auto` drops items from the middle.
#[derive(Debug)]
struct Truncation(Overflow);

/// The reasoning effort, in OpenAI's terms.
#[derive(Debug)]
pub(super) struct Effort(pub Thinking);

deserialize_by_shape!(Truncation Effort);

impl Shape<'_> for Truncation {
    const WHAT: &'static str = "must be \"auto\" or \"disabled\"";

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        match word {
            "disabled" => Ok(Self(Overflow::Error)),
            "auto" => Ok(Self(Overflow::TruncateMiddle)),
            _ => Err(refusal::<Self, E>()),
        }
    }
}

impl Shape<'_> for Effort {
    const WHAT: &'static str = "must be \"none\", \"minimal\", \"low\", \"medium\", \"high\", \
                                \"xhigh\" or \"max\"";

    fn text<E: Error>(word: &str) -> Result<Self, E> {
        match word {
            "none" => Ok(Self(Thinking::Off)),
            "minimal" | "low" => Ok(Self(Thinking::Low)),
            "medium" => Ok(Self(Thinking::Medium)),
            "high" | "xhigh" | "max" => Ok(Self(Thinking::High)),
            _ => Err(refusal::<Self, E>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_sampling_options_are_read() {
        let body = json!({
            "temperature": 1, "top_k": 40.0, "repeat_last_n": -1, "dry_penalty_last_n": -1.0,
            "seed": i64::MAX, "samplers": "kt", "dry_sequence_breakers": ["\n"], "mirostat": null,
            "ignore_eos": true, "min_keep": 2, "logit_bias": {"7": 1}, "unknown": {},
        });
        let options = decode_options(body.as_object().unwrap()).unwrap();
        let sampling = options.sampling;
        assert_eq!(sampling.temperature, Some(1.0));
        assert_eq!((sampling.top_k, sampling.min_keep), (Some(40), Some(2)));
        assert_eq!(sampling.repeat_last_n, Some(u32::MAX));
        assert_eq!(sampling.dry_penalty_last_n, Some(u32::MAX));
        assert_eq!((sampling.seed, sampling.mirostat), (Some(u32::MAX), None));
        assert_eq!(sampling.samplers.map(|list| list.len()), Some(2));
        assert_eq!(sampling.dry_sequence_breakers, Some(vec!["\n".into()]));
        assert_eq!(sampling.logit_bias.len(), 1);
        assert_eq!(
            (options.ignore_eos, sampling.ignore_eos),
            (Some(true), false)
        );
    }

    #[test]
    fn errors_name_the_option() {
        for (body, part) in [
            (json!({"temperature": "hot"}), "`temperature`"),
            // As an `f32` it would be infinite.
            (json!({"temperature": 1e300}), "usual size"),
            (json!({"max_tokens": -2}), "`max_tokens`"),
            (json!({"max_tokens": 0}), "`max_tokens`"),
            (json!({"stop": [1]}), "`stop[0]`"),
            (json!({"stop": vec!["x"; 17]}), "at most 16"),
            (json!({"priority": "urgent"}), "interactive"),
            (json!({"logit_bias": {"x": "much"}}), "`logit_bias`"),
            (json!({"logit_bias": {"7": 101}}), "`logit_bias`"),
            (json!({"top_p": 1.5}), "top_p = 1.5"),
            (json!({"mirostat": 3}), "mirostat = 3"),
            (json!({"samplers": ["top_q"]}), "top_q"),
            (json!({"samplers": "kq"}), "`samplers`"),
            (json!({"samplers": [1]}), "`samplers[0]`"),
            (
                json!({"dry_sequence_breakers": [7]}),
                "`dry_sequence_breakers[0]`",
            ),
            (json!({"repeat_last_n": -2}), "`repeat_last_n`"),
            (json!({"grammar": 1}), "`grammar`"),
            (json!({"reasoning_effort": "some"}), "`reasoning_effort`"),
            (json!({"lora": [{"scale": 1}]}), "`lora`"),
            (json!({"lora": [{"id": "x"}]}), "`lora[0].id`"),
        ] {
            let error = decode_options(body.as_object().unwrap()).unwrap_err();
            assert!(error.message.contains(part), "{body}: {error}");
        }
    }

    #[test]
    fn max_tokens_minus_one_is_no_bound() {
        for (name, number, expected) in [
            ("max_tokens", -1, u32::MAX),
            ("max_completion_tokens", -1, u32::MAX),
            ("max_tokens", 7, 7),
        ] {
            let body = json!({name: number});
            let options = decode_options(body.as_object().unwrap()).unwrap();
            assert_eq!(options.max_tokens, Some(expected), "{body}");
        }
    }

    #[test]
    fn an_out_of_range_number_names_its_field() {
        let body = json!({"top_p": 1.5});
        let failure = decode_options(body.as_object().unwrap()).unwrap_err();
        assert_eq!(failure.field.as_deref(), Some("top_p"));
    }

    #[test]
    fn reasoning_effort_is_read() {
        for (effort, thinking) in [
            (json!(null), None),
            (json!("none"), Some(Thinking::Off)),
            (json!("minimal"), Some(Thinking::Low)),
            (json!("medium"), Some(Thinking::Medium)),
            (json!("xhigh"), Some(Thinking::High)),
        ] {
            let body = json!({"reasoning_effort": effort});
            let options = decode_options(body.as_object().unwrap()).unwrap();
            assert_eq!(options.thinking, thinking, "{effort}");
        }
    }
}
