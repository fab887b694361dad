//! The options that chats, completions and the turns of a session have in common.

use hearth_proto::{Failure, Overflow, RequestOptions, Sampling, Thinking};
use serde_json::{Map, Value};

use super::bias::logit_bias;
use super::form;
use crate::fields::{field, priority, sampling, stop};

/// Decodes the options among the fields of a request.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_options(body: &Map<String, Value>) -> Result<RequestOptions, Failure> {
    let get = |name| field(body, name);
    let max_tokens = match get("max_completion_tokens").whole()? {
        None => get("max_tokens").whole()?,
        some => some,
    };
    if max_tokens == Some(0) {
        return Err(Failure::invalid_field("max_tokens", "must be at least 1"));
    }
    Ok(RequestOptions {
        model: get("model").text()?,
        sampling: Sampling {
            logit_bias: logit_bias(body.get("logit_bias"))?,
            ignore_eos: false,
            ..sampling(body)?
        },
        ignore_eos: get("ignore_eos").flag()?,
        max_tokens,
        stop: stop(body.get("stop"))?,
        priority: priority(body)?,
        overflow: overflow(get("truncation").text()?.as_deref())?,
        reproducible: get("reproducible").flag()?,
        cache_prompt: get("cache_prompt").flag()?,
        constraint: form::constraint(body)?,
        thinking: thinking(get("reasoning_effort").text()?.as_deref())?,
        reasoning_budget: get("reasoning_budget").whole()?,
        chat_template_kwargs: kwargs(body)?,
        shared_messages: get("shared_messages").whole()?,
        continue_final_message: get("continue_final_message").flag()?,
    })
}

/// What to do with a conversation that is too long, in the terms of OpenAI's Responses API,
/// where `auto` drops items from the middle.
fn overflow(truncation: Option<&str>) -> Result<Option<Overflow>, Failure> {
    match truncation {
        None => Ok(None),
        Some("disabled") => Ok(Some(Overflow::Error)),
        Some("auto") => Ok(Some(Overflow::TruncateMiddle)),
        Some(_) => Err(Failure::invalid_field(
            "truncation",
            "must be \"auto\" or \"disabled\"",
        )),
    }
}

/// Further variables of the chat template, as llama-server and vLLM accept them.
fn kwargs(body: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Failure> {
    match body.get("chat_template_kwargs") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map.clone())),
        Some(_) => Err(Failure::invalid_field(
            "chat_template_kwargs",
            "must be an object",
        )),
    }
}

/// The reasoning effort, in OpenAI's terms.
fn thinking(effort: Option<&str>) -> Result<Option<Thinking>, Failure> {
    Ok(Some(match effort {
        None => return Ok(None),
        Some("none") => Thinking::Off,
        Some("minimal" | "low") => Thinking::Low,
        Some("medium") => Thinking::Medium,
        Some("high" | "xhigh" | "max") => Thinking::High,
        Some(_) => {
            return Err(Failure::invalid_field(
                "reasoning_effort",
                "must be \"none\", \"minimal\", \"low\", \"medium\", \"high\", \
                 \"xhigh\" or \"max\"",
            ));
        }
    }))
}
