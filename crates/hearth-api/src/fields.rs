//! Fields of requests that are JSON objects, checked so that an error names the field.
//! Fields that the APIs have in common are read here.

use hearth_proto::{Failure, FailureKind, Priority, SamplerName, Sampling};
use serde_json::{Map, Value};

/// A request's body.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::invalid("the request must be a JSON object")),
        Err(error) => Err(Failure::invalid(format!(
            "the request is not valid JSON: {error}"
        ))),
    }
}

/// A field of a body.
pub(super) fn field<'a>(body: &'a Map<String, Value>, name: &'static str) -> Field<'a> {
    Field {
        name,
        value: body.get(name),
    }
}

/// The sampling options; the names are llama.cpp's, and the same in all APIs.
pub(super) fn sampling(body: &Map<String, Value>) -> Result<Sampling, Failure> {
    let get = |name| field(body, name);
    let sampling = Sampling {
        temperature: get("temperature").float()?,
        dynatemp_range: get("dynatemp_range").float()?,
        dynatemp_exponent: get("dynatemp_exponent").float()?,
        top_k: get("top_k").whole()?,
        top_p: get("top_p").float()?,
        min_p: get("min_p").float()?,
        typical_p: get("typical_p").float()?,
        top_n_sigma: get("top_n_sigma").float()?,
        xtc_probability: get("xtc_probability").float()?,
        xtc_threshold: get("xtc_threshold").float()?,
        min_keep: get("min_keep").whole()?,
        repeat_penalty: get("repeat_penalty").float()?,
        repeat_last_n: get("repeat_last_n").window()?,
        presence_penalty: get("presence_penalty").float()?,
        frequency_penalty: get("frequency_penalty").float()?,
        dry_multiplier: get("dry_multiplier").float()?,
        dry_base: get("dry_base").float()?,
        dry_allowed_length: get("dry_allowed_length").whole()?,
        dry_penalty_last_n: get("dry_penalty_last_n").window()?,
        dry_sequence_breakers: get("dry_sequence_breakers").texts()?,
        mirostat: get("mirostat").whole()?,
        mirostat_tau: get("mirostat_tau").float()?,
        mirostat_eta: get("mirostat_eta").float()?,
        adaptive_target: get("adaptive_target").float()?,
        adaptive_decay: get("adaptive_decay").float()?,
        samplers: samplers(body.get("samplers"))?,
        // Larger seeds are legal in OpenAI's API; their low bits are used.
        seed: get("seed").seed()?,
        logit_bias: Vec::new(),
        ignore_eos: get("ignore_eos").flag()?.unwrap_or_default(),
    };
    let wrong = |(name, why): (&str, String)| Failure::invalid(why).about(name);
    sampling.check().map_err(wrong)?;
    Ok(sampling)
}

/// Samplers by name, or as a text with one letter for each: llama.cpp accepts both.
fn samplers(value: Option<&Value>) -> Result<Option<Vec<SamplerName>>, Failure> {
    let wrong =
        || Failure::invalid_field("samplers", "must be a list of names, or a text of letters");
    let parsed: Result<Vec<SamplerName>, String> = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(letters)) => letters.chars().map(SamplerName::of_letter).collect(),
        Some(Value::Array(names)) => {
            let names = names.iter().map(|name| name.as_str().ok_or_else(wrong));
            let names = names.collect::<Result<Vec<_>, _>>()?;
            names.into_iter().map(str::parse).collect()
        }
        Some(_) => return Err(wrong()),
    };
    let parsed =
        parsed.map_err(|why| Failure::invalid(format!("`samplers`: {why}")).about("samplers"))?;
    Ok(Some(parsed))
}

/// The request's class.
pub(super) fn priority(body: &Map<String, Value>) -> Result<Option<Priority>, Failure> {
    match body.get("priority") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => {
            let wrong = |why: String| Failure::invalid(why).about("priority");
            s.parse().map(Some).map_err(wrong)
        }
        Some(_) => Err(Failure::invalid_field("priority", "must be a string")),
    }
}

/// A message's text.
pub(super) fn content(value: Option<&Value>) -> Result<String, Failure> {
    match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(
                |part| match (part.get("type").and_then(Value::as_str), part.get("text")) {
                    (Some("text"), Some(Value::String(text))) => Ok(text.as_str()),
                    (kind, _) => Err(Failure::of_field(
                        FailureKind::NotSupported,
                        "content",
                        format!(
                            "parts of type {:?} are not supported, only \"text\"",
                            kind.unwrap_or("?")
                        ),
                    )),
                },
            )
            .collect(),
        Some(_) => Err(Failure::invalid_field(
            "content",
            "must be a string or a list of parts",
        )),
    }
}

/// An earlier call of the model. Templates expect `arguments` as an object; OpenAI sends it
/// as a string.
pub(super) fn tool_call(call: &Value) -> Value {
    let mut call = call.clone();
    if let Some(arguments) = call.pointer_mut("/function/arguments")
        && let Some(parsed) = arguments
            .as_str()
            .and_then(|s| serde_json::from_str(s).ok())
    {
        *arguments = parsed;
    }
    call
}

/// Strings before which an answer ends.
pub(super) fn stop(value: Option<&Value>) -> Result<Option<Vec<String>>, Failure> {
    let wrong =
        || Failure::invalid_field("stop", "must be a string or a list of at most 16 strings");
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(one)) => Ok(Some(vec![one.clone()])),
        Some(Value::Array(list)) if list.len() <= 16 => list
            .iter()
            .map(|s| s.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()
            .map(Some),
        Some(_) => Err(wrong()),
    }
}

/// One field by name, so that errors can name it.
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) value: Option<&'a Value>,
}

impl Field<'_> {
    pub(super) fn wrong<T>(&self, what: &str) -> Result<T, Failure> {
        Err(Failure::invalid_field(
            self.name,
            format_args!("must be {what}"),
        ))
    }

    pub(super) fn float(&self) -> Result<Option<f32>, Failure> {
        #[expect(clippy::cast_possible_truncation, reason = "sampling needs no more")]
        match self.value {
            None | Some(Value::Null) => Ok(None),
            // A value that is finite in 64 bits need not be in 32, and the engine accepts
            // no infinity.
            Some(v) => match v.as_f64().map(|f| f as f32) {
                Some(f) if f.is_finite() => Ok(Some(f)),
                _ => self.wrong("a number of usual size"),
            },
        }
    }

    /// Whole numbers; clients also send `8192.0`.
    pub(super) fn whole(&self) -> Result<Option<u32>, Failure> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked"
        )]
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(v) => match v.as_f64() {
                Some(f) if f >= 0.0 && f <= f64::from(u32::MAX) && f.fract() == 0.0 => {
                    Ok(Some(f as u32))
                }
                _ => self.wrong("a whole number"),
            },
        }
    }

    /// A number of tokens to look back; -1 is the whole context.
    fn window(&self) -> Result<Option<u32>, Failure> {
        match self.value.and_then(Value::as_f64) {
            Some(-1.0) => Ok(Some(u32::MAX)),
            _ => self.whole(),
        }
    }

    fn texts(&self) -> Result<Option<Vec<String>>, Failure> {
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) => {
                let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
                let texts: Option<Vec<String>> = texts.collect();
                texts.map_or_else(|| self.wrong("a list of strings"), |texts| Ok(Some(texts)))
            }
            Some(_) => self.wrong("a list of strings"),
        }
    }

    /// A number truncated to an integer, as Ollama reads integers.
    pub(super) fn integer(&self) -> Result<Option<i64>, Failure> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the largest do for larger ones"
        )]
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => Ok(number
                .as_i64()
                .or_else(|| number.as_f64().map(|f| f as i64))),
            Some(_) => self.wrong("a whole number"),
        }
    }

    pub(super) fn seed(&self) -> Result<Option<u32>, Failure> {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(v) => match v.as_i64() {
                Some(n) => Ok(Some(n.cast_unsigned() as u32)),
                None => self.wrong("a whole number"),
            },
        }
    }

    pub(super) fn flag(&self) -> Result<Option<bool>, Failure> {
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(_) => self.wrong("true or false"),
        }
    }

    pub(super) fn text(&self) -> Result<Option<String>, Failure> {
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(s)) => Ok(Some(s.clone())),
            Some(_) => self.wrong("a string"),
        }
    }
}
