//! The chat template of the model file, rendered by minijinja.
//!
//! Templates are written for Hugging Face's Jinja set-up: `raise_exception`,
//! `strftime_now`, Python string methods, and a `tojson` that writes
//! `json.dumps`' separators and keeps the keys' order.

#[cfg(test)]
mod families;

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use crate::protocol::{Failure, FailureKind, Message, Thinking};

/// Used where the file has no template: `ChatML`, the most common form.
pub const CHATML: &str = "{%- for m in messages -%}\
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

/// Instructions one rendering may take; a template that loops without end stops
/// here instead of holding the engine.
const FUEL: u64 = 20_000_000;

/// A compiled chat template.
#[derive(Debug)]
pub struct Template {
    env: Environment<'static>,
    bos: String,
    eos: String,
}

impl Template {
    /// Compiles `source`, or `ChatML` where the file has none. `today` (ISO date) is
    /// what `strftime_now` is told, so that rendering reads no clock.
    ///
    /// # Errors
    /// `ModelInvalid` where the template does not compile.
    pub fn new(source: Option<&str>, bos: &str, eos: &str, today: &str) -> Result<Self, Failure> {
        let mut env = Environment::new();
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        if let Ok(syntax) = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
        {
            env.set_syntax(syntax);
        }
        env.set_fuel(Some(FUEL));
        env.add_filter("tojson", tojson);
        env.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        let today = today.to_owned();
        env.add_function("strftime_now", move |format: String| {
            crate::prompt::date::strftime(&today, &format)
        });
        env.add_template_owned("chat", without_generation(source.unwrap_or(CHATML)))
            .map_err(|e| {
                Failure::new(
                    FailureKind::ModelInvalid,
                    format!("the model file's chat template does not compile: {e}"),
                )
            })?;
        Ok(Self {
            env,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        })
    }

    /// Text of the token that begins a text; empty where there is none.
    pub fn bos(&self) -> &str {
        &self.bos
    }

    /// Renders a conversation up to where the assistant is to go on. Some models know no
    /// system prompt, and their templates refuse one: then it stands in front of the
    /// first question.
    ///
    /// # Errors
    /// `InvalidArgs` where the template refuses the messages (wrong roles or
    /// order, usually).
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
    ) -> Result<String, Failure> {
        self.render_thinking(messages, tools, None)
    }

    /// As [`Self::render`], with the variables that let one choose how much the model
    /// thinks: `enable_thinking` (Qwen and others) and `reasoning_effort` (gpt-oss). They
    /// are undefined where nothing was chosen.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_thinking(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
        thinking: Option<Thinking>,
    ) -> Result<String, Failure> {
        self.render_as_is(messages, tools, thinking)
            .or_else(|failure| {
                let folded = without_system(messages).ok_or_else(|| failure.clone())?;
                self.render_as_is(&folded, tools, thinking)
                    .map_err(|_| failure)
            })
    }

    fn render_as_is(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
        thinking: Option<Thinking>,
    ) -> Result<String, Failure> {
        let template = self.env.get_template("chat").map_err(|e| refused(&e))?;
        let messages: Vec<Value> = messages.iter().map(|m| Value::from(Serde(m))).collect();
        // Templates test `if tools`; an empty list would be false as well, but
        // some test `tools is not none`.
        let tools = if tools.is_empty() {
            Value::from(())
        } else {
            Value::from(Serde(tools))
        };
        template
            .render(context! {
                messages,
                tools,
                add_generation_prompt => true,
                enable_thinking => thinking.map_or(Value::UNDEFINED, |t| Value::from(t != Thinking::Off)),
                reasoning_effort => thinking.and_then(Thinking::effort).map_or(Value::UNDEFINED, Value::from),
                bos_token => self.bos.as_str(),
                eos_token => self.eos.as_str(),
            })
            .map_err(|e| refused(&e))
    }
}

/// The messages with the system prompt as the begin of the question that follows it.
fn without_system(messages: &[Message]) -> Option<Vec<Message>> {
    let [system, question, rest @ ..] = messages else {
        return None;
    };
    if system.role != "system" || question.role != "user" {
        return None;
    }
    let content = format!("{}\n\n{}", system.content, question.content);
    let mut folded = vec![Message {
        content,
        ..question.clone()
    }];
    folded.extend_from_slice(rest);
    Some(folded)
}

/// Hugging Face marks what is trained on with a tag of its own, which only training
/// heeds: it becomes a block that does nothing.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let dash = after.len() - after.trim_start_matches('-').len();
        let (dash, tag) = after.split_at(dash);
        out.push_str(dash);
        rest = tag;
        for (name, block) in [("generation", " if true "), ("endgeneration", " endif ")] {
            let end = tag.trim_start().strip_prefix(name).map(str::trim_start);
            if let Some(end) = end.filter(|end| end.starts_with(['-', '%'])) {
                out.push_str(block);
                rest = end;
            }
        }
    }
    out.push_str(rest);
    out
}

fn refused(error: &Error) -> Failure {
    Failure::invalid(format!(
        "the model's chat template refuses these messages: {}",
        error
            .detail()
            .map_or_else(|| error.to_string(), str::to_owned)
    ))
}

/// `json.dumps`' separators: a space after each comma and colon.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja passes them so")]
fn tojson(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    // Others (ensure_ascii, separators, sort_keys) do not change what models saw.
    let compact: Option<Value> = kwargs.get("separators")?;
    let mut out = Vec::new();
    let spaces = " ".repeat(indent.unwrap_or_default().min(16));
    let written = match (indent, compact) {
        (Some(_), _) => {
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
        }
        (None, Some(_)) => {
            value.serialize(&mut Serializer::with_formatter(&mut out, CompactFormatter))
        }
        (None, None) => value.serialize(&mut Serializer::with_formatter(&mut out, PythonFormatter)),
    };
    written.map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    let text = String::from_utf8(out)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    Ok(Value::from_safe_string(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str, messages: &[Message]) -> Result<String, Failure> {
        Template::new(Some(source), "<s>", "</s>", "2026-01-31")?.render(messages, &[])
    }

    #[test]
    fn chatml_is_the_fallback() {
        let template = Template::new(None, "", "", "").unwrap();
        assert_eq!(
            template.render(&[Message::user("Hi")], &[]).unwrap(),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn tojson_writes_what_json_dumps_writes() {
        let tools = [json!({"b": [1, 2.5], "a": {"x": "é<"}})];
        let source = "{% for t in tools %}{{ t | tojson }}|{{ t | tojson(indent=2) }}{% endfor %}";
        let template = Template::new(Some(source), "", "", "").unwrap();
        let text = template.render(&[], &tools).unwrap();
        assert!(
            text.starts_with(r#"{"b": [1, 2.5], "a": {"x": "é<"}}|{"#),
            "{text}"
        );
        assert!(text.contains("\n  \"b\": [\n    1,"), "{text}");
    }

    #[test]
    fn python_methods_dates_and_refusals() {
        let text = render(
            "{{ bos_token }}{{ messages[0].content.strip().upper() }}{{ strftime_now('%Y') }}",
            &[Message::user(" hi ")],
        );
        assert_eq!(text.unwrap(), "<s>HI2026");
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        assert_eq!(error.kind, FailureKind::InvalidArgs);
        assert!(error.message.contains("roles must alternate"), "{error}");
    }

    #[test]
    fn thinking_is_undefined_unless_chosen() {
        let source = "{{ enable_thinking | default('?') }} {{ reasoning_effort | default('?') }}";
        let template = Template::new(Some(source), "", "", "").unwrap();
        for (thinking, expected) in [
            (None, "? ?"),
            (Some(Thinking::Off), "False ?"),
            (Some(Thinking::On), "True ?"),
            (Some(Thinking::Low), "True low"),
            (Some(Thinking::Medium), "True medium"),
            (Some(Thinking::High), "True high"),
        ] {
            let text = template.render_thinking(&[], &[], thinking);
            assert_eq!(text.unwrap(), expected);
        }
    }

    #[test]
    fn a_broken_or_endless_template_is_an_error() {
        assert_eq!(
            Template::new(Some("{% if %}"), "", "", "")
                .unwrap_err()
                .kind,
            FailureKind::ModelInvalid
        );
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(render(endless, &[]).is_err());
    }
}
