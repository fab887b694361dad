//! The options of sessions and of their turns.

use hearth_api::openai::{decode_options, decode_tools};
use hearth_proto::{Failure, Priority, RequestOptions};
use serde_json::{Map, Value};

use super::options::{Options, check, deadline, fields, text};
use super::turn::schema;
use crate::sessions::Turn;

/// Options of a session that are fields of a `Chat` request; also accepted for one turn.
const FIELDS: &[&str] = &[
    "temperature",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "xtc_probability",
    "xtc_threshold",
    "min_keep",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "adaptive_target",
    "adaptive_decay",
    "samplers",
    "ignore_eos",
    "seed",
    "max_tokens",
    "stop",
    "truncation",
    "cache_prompt",
    "reproducible",
    "priority",
    "lora",
];

/// Options of a session, or of one turn, that concern tools; fields of a `Chat` request.
const TOOL_FIELDS: &[&str] = &[
    TOOLS,
    "tool_choice",
    "parallel_tool_calls",
    "tool_call_mode",
];
/// Of these, the one that is JSON.
const TOOLS: &str = "tools";

/// The option of a session that names its model.
const MODEL: &str = "model";

/// The settings of a session.
#[derive(Debug)]
pub(super) struct SessionSettings {
    pub(super) system: String,
    /// Options of every turn.
    pub(super) options: RequestOptions,
    /// Fields that concern tools, of every turn.
    pub(super) tools: Map<String, Value>,
}

/// Decodes the options of `OpenSession`.
pub(super) fn session(options: &Options) -> Result<SessionSettings, Failure> {
    check(options, &[&["system", MODEL], FIELDS, TOOL_FIELDS].concat())?;
    let system = text(options, "system")?.unwrap_or_default().to_owned();
    let tools = tool_fields(options)?;
    let is_option = |key: &str| key == MODEL || FIELDS.contains(&key);
    let mut options = decode_options(&fields(options, is_option)?)?;
    // The user of a conversation waits for the next answer.
    options.priority.get_or_insert(Priority::Interactive);
    Ok(SessionSettings {
        system,
        options,
        tools,
    })
}

/// The options that concern tools, as fields of a request.
fn tool_fields(options: &Options) -> Result<Map<String, Value>, Failure> {
    let is_plain = |key: &str| key != TOOLS && TOOL_FIELDS.contains(&key);
    let mut fields = fields(options, is_plain)?;
    if let Some(tools) = text(options, TOOLS)? {
        fields.insert(TOOLS.to_owned(), decode_tools(tools)?.into());
    }
    Ok(fields)
}

/// Decodes the options of one turn of a session.
pub(super) fn session_turn(options: &Options) -> Result<Turn, Failure> {
    let own = ["json_schema", "deadline_ms"];
    check(options, &[&own, FIELDS, TOOL_FIELDS].concat())?;
    let fields = fields(options, |key| FIELDS.contains(&key))?;
    Ok(Turn {
        tools: tool_fields(options)?,
        options: RequestOptions {
            constraint: text(options, "json_schema")?.map(schema).transpose()?,
            ..decode_options(&fields)?
        },
        deadline: deadline(options)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;
    use crate::dbus::options::tests::options;
    use hearth_proto::{AdapterRef, Constraint, Lora, SamplerName, Sampling};

    #[test]
    fn session_options_become_request_options() {
        let given = options([
            ("system", "Be brief.".into()),
            ("temperature", 0.5.into()),
            ("max_tokens", 7_u32.into()),
            ("stop", vec!["a", "b"].into()),
            ("samplers", vec!["top_k", "dry"].into()),
            ("mirostat_tau", 4.5.into()),
            ("lora", HashMap::from([("tone", 0.5)]).into()),
        ]);
        let SessionSettings {
            system,
            options: read,
            ..
        } = session(&given).unwrap();
        assert_eq!(system, "Be brief.");
        let expected = RequestOptions {
            sampling: Sampling {
                temperature: Some(0.5),
                samplers: Some(vec![SamplerName::TopK, SamplerName::Dry]),
                mirostat_tau: Some(4.5),
                ..Sampling::default()
            },
            max_tokens: Some(7),
            stop: Some(vec!["a".into(), "b".into()]),
            priority: Some(Priority::Interactive),
            lora: Some(vec![Lora {
                adapter: AdapterRef::Name("tone".into()),
                scale: 0.5,
            }]),
            ..RequestOptions::default()
        };
        assert_eq!(read, expected);
        let given = options([("json_schema", "".into()), ("deadline_ms", 5_u32.into())]);
        let turn = session_turn(&given).unwrap();
        let expected = RequestOptions {
            constraint: Some(Constraint::JsonObject),
            ..RequestOptions::default()
        };
        assert_eq!(turn.options, expected);
        assert_eq!(turn.deadline, Some(Duration::from_millis(5)));
    }

    #[test]
    fn wrong_options_are_named_in_the_error() {
        for (key, value, part) in [
            (
                "temprature",
                0.5.into(),
                "unknown option \"temprature\": the options are system",
            ),
            (
                "temperature",
                f64::NAN.into(),
                "\"temperature\" cannot be of type d",
            ),
            ("system", 1_u32.into(), "\"system\" must be a string"),
        ] {
            let failure = session(&options([(key, value)])).unwrap_err();
            assert!(failure.message.contains(part), "{failure}");
        }
        let failure = session_turn(&options([("model", "x".into())])).unwrap_err();
        assert!(
            failure.message.contains("unknown option \"model\""),
            "{failure}"
        );
    }
}
