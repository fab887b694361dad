//! Options dictionaries; unknown keys are rejected.

use std::collections::HashMap;
use std::time::Duration;

use hearth_api::openai::{decode_messages, decode_options, decode_tools};
use hearth_proto::{Failure, ModelRef, Submission};
use serde_json::{Map, Number, Value};
use zbus::{OwnedVariant, Variant};

use super::images::IMAGES;
use crate::dispatch::{Prewarm, Rerank};

/// The option that names adapters.
const LORA: &str = "lora";

/// A method's `a{sv}`.
pub(super) type Options = HashMap<String, OwnedVariant>;

/// Default of `Tuning.Measure`'s option `wait_s`.
const TUNE_WAIT: Duration = Duration::from_mins(10);

/// Rejects keys that the method does not have.
pub(super) fn check(options: &Options, known: &[&str]) -> Result<(), Failure> {
    let Some(unknown) = options.keys().find(|k| !known.contains(&k.as_str())) else {
        return Ok(());
    };
    Err(Failure::invalid(if known.is_empty() {
        format!("unknown option {unknown:?}: this method has no options")
    } else {
        format!(
            "unknown option {unknown:?}: the options are {}",
            known.join(", ")
        )
    }))
}

/// A string option.
pub(super) fn text<'a>(options: &'a Options, name: &str) -> Result<Option<&'a str>, Failure> {
    let Some(value) = options.get(name) else {
        return Ok(None);
    };
    let text = value.downcast_ref::<&str>();
    text.map(Some)
        .map_err(|_| Failure::invalid(format!("option {name:?} must be a string (s)")))
}

/// Decodes the request of `Prewarm`, and whether it ends with its caller.
pub(super) fn prewarm(system: String, options: &Options) -> Result<(Prewarm, bool), Failure> {
    let own = ["model", "messages", "tools", "cancel_when_gone"];
    check(options, &[own.as_slice(), &[LORA]].concat())?;
    let prewarm = Prewarm {
        system,
        messages: match text(options, "messages")? {
            None | Some("") => Vec::new(),
            Some(messages) => decode_messages(messages)?,
        },
        tools: match text(options, "tools")? {
            None | Some("") => Vec::new(),
            Some(tools) => decode_tools(tools)?,
        },
        model: text(options, "model")?.map(str::to_owned),
        lora: decode_options(&fields(options, |key| key == LORA)?)?
            .lora
            .unwrap_or_default(),
    };
    Ok((prewarm, ends_with_caller(options)?))
}

/// Decodes the options of `Embed` and `EmbedToFile`: the model.
pub(super) fn model(options: &Options) -> Result<ModelRef, Failure> {
    check(options, &["model"])?;
    Ok(text(options, "model")?.into())
}

/// Decodes the options of a call that starts a job: whether it ends with its caller.
pub(super) fn job(options: &Options) -> Result<bool, Failure> {
    check(options, &["cancel_when_gone"])?;
    ends_with_caller(options)
}

/// Decodes the request of `Rerank`.
pub(super) fn rerank(
    query: String,
    documents: Vec<String>,
    options: &Options,
) -> Result<Rerank, Failure> {
    check(options, &["model", "top_n"])?;
    let top_n = options.get("top_n").map(|value| {
        let wrong = |_| Failure::invalid("option \"top_n\" must be a number (u)");
        value.downcast_ref::<u32>().map_err(wrong)
    });
    Ok(Rerank {
        model: text(options, "model")?.into(),
        query,
        documents,
        top_n: top_n.transpose()?,
    })
}

/// How long `Tuning.Measure` waits for a board that is warm or busy.
pub(super) fn tune(options: &Options) -> Result<Duration, Failure> {
    check(options, &["wait_s"])?;
    wait(options)
}

/// The same of `Tuning.StartMeasure`, and whether the job ends with its caller.
pub(super) fn tune_job(options: &Options) -> Result<(Duration, bool), Failure> {
    check(options, &["wait_s", "cancel_when_gone"])?;
    Ok((wait(options)?, ends_with_caller(options)?))
}

fn wait(options: &Options) -> Result<Duration, Failure> {
    let Some(value) = options.get("wait_s") else {
        return Ok(TUNE_WAIT);
    };
    let seconds = value.downcast_ref::<u32>();
    let seconds = seconds
        .map_err(|_| Failure::invalid("option \"wait_s\" must be a number of seconds (u)"))?;
    Ok(Duration::from_secs(u64::from(seconds)))
}

/// Applies the options of `Submit` and `OpenStream`; returns whether the job ends when
/// its submitter leaves the bus.
pub(super) fn apply(options: &Options, submission: &mut Submission) -> Result<bool, Failure> {
    check(
        options,
        &["priority", "deadline_ms", "cancel_when_gone", IMAGES],
    )?;
    if let Some(word) = text(options, "priority")? {
        submission.request.priority = word.parse().map_err(Failure::invalid)?;
    }
    submission.deadline = deadline(options)?;
    ends_with_caller(options)
}

fn ends_with_caller(options: &Options) -> Result<bool, Failure> {
    options.get("cancel_when_gone").map_or(Ok(false), |value| {
        let wrong = |_| Failure::invalid("option \"cancel_when_gone\" must be true or false (b)");
        value.downcast_ref::<bool>().map_err(wrong)
    })
}

pub(super) fn deadline(options: &Options) -> Result<Option<Duration>, Failure> {
    let Some(value) = options.get("deadline_ms") else {
        return Ok(None);
    };
    let ms = value
        .downcast_ref::<u64>()
        .or_else(|_| value.downcast_ref::<u32>().map(u64::from))
        .map_err(|_| Failure::invalid("option \"deadline_ms\" must be a number (t or u)"))?;
    Ok(Some(Duration::from_millis(ms)))
}

/// The options that are meant, as fields of a request.
pub(super) fn fields(
    options: &Options,
    is_meant: impl Fn(&str) -> bool,
) -> Result<Map<String, Value>, Failure> {
    let fields = options.iter().filter(|(key, _)| is_meant(key));
    fields
        .map(|(key, value)| {
            let json = json(value).ok_or_else(|| {
                let kind = value.value_signature();
                Failure::invalid(format!("option {key:?} cannot be of type {kind}"))
            })?;
            Ok((key.clone(), json))
        })
        .collect()
}

/// A value as JSON; `None` if JSON has no such value.
pub(super) fn json(value: &Variant<'_>) -> Option<Value> {
    Some(match value {
        Variant::Bool(b) => (*b).into(),
        Variant::U8(n) => (*n).into(),
        Variant::I16(n) => (*n).into(),
        Variant::U16(n) => (*n).into(),
        Variant::I32(n) => (*n).into(),
        Variant::U32(n) => (*n).into(),
        Variant::I64(n) => (*n).into(),
        Variant::U64(n) => (*n).into(),
        Variant::F64(x) => Number::from_f64(*x)?.into(),
        Variant::Str(text) => text.as_str().into(),
        Variant::Array(items) => items.inner().iter().map(json).collect::<Option<Value>>()?,
        Variant::Dict(entries) => {
            let entry = |(key, value): (&Variant<'_>, &Variant<'_>)| match key {
                Variant::Str(key) => Some((key.as_str().to_owned(), json(value)?)),
                _ => None,
            };
            entries
                .iter()
                .map(entry)
                .collect::<Option<Map<_, _>>>()?
                .into()
        }
        Variant::Variant(inner) => json(inner)?,
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hearth_proto::{AdapterRef, Lora};

    pub(crate) fn options<const N: usize>(pairs: [(&str, Variant<'static>); N]) -> Options {
        let owned = |(key, value): (&str, Variant<'static>)| {
            (key.to_owned(), OwnedVariant::try_from(value).unwrap())
        };
        pairs.into_iter().map(owned).collect()
    }

    #[test]
    fn a_prewarm_names_adapters() {
        let lora = HashMap::from([("tone", 0.5)]);
        let given = options([("model", "m".into()), ("lora", lora.into())]);
        let (read, _) = prewarm("a".into(), &given).unwrap();
        let tone = Lora {
            adapter: AdapterRef::Name("tone".into()),
            scale: 0.5,
        };
        assert_eq!(read.lora, [tone]);
        let wrong = prewarm("a".into(), &options([("lora", 1_u32.into())]));
        assert_eq!(wrong.unwrap_err().field.as_deref(), Some("lora"));
    }

    #[test]
    fn wrong_tools_are_named_in_the_error() {
        let failure = prewarm("a".into(), &options([("tools", "[{}]".into())])).unwrap_err();
        assert!(
            failure.message.contains("a `function` with a `name`"),
            "{failure}"
        );
    }
}
