//! Transcriptions: the fields of a form into a chat with a sound, the answer into a response.

use hearth_proto::{
    Answer, Failure, FailureKind, Media, MediaKind, Message, Prompt, Submission, Thinking,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::options::decode_options;
use crate::encode::value;
use crate::read::quote;

/// What a model is told. Models that hear are chat models: nothing but the instruction says
/// that a transcript is wanted.
const INSTRUCTION: &str = "Transcribe the audio, word for word. Write nothing else.";
/// Fields that are read as numbers; the others are texts.
const NUMBERS: [&str; 3] = ["temperature", "max_tokens", "seed"];
/// The most characters of a language's name.
const LANGUAGE_MAX: usize = 35;

/// The form of the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TranscriptFormat {
    /// An object with the text and the tokens used.
    #[default]
    Json,
    /// The text alone.
    Text,
}

/// A decoded request for a transcript.
#[derive(Clone, Debug, PartialEq)]
pub struct TranscriptionRequest {
    /// What to do.
    pub submission: Submission,
    /// The form of the response.
    pub format: TranscriptFormat,
}

/// The fields of the form that are read.
#[derive(Default)]
struct Form {
    file: Option<Vec<u8>>,
    format: TranscriptFormat,
    language: String,
    prompt: String,
    /// As a chat's.
    options: Map<String, Value>,
}

/// Decodes the fields of a form, names and contents, sent to `/v1/audio/transcriptions`.
///
/// # Errors
/// `InvalidArgs` naming the field, `NotSupported`.
pub fn decode_transcription(
    fields: Vec<(String, Vec<u8>)>,
) -> Result<TranscriptionRequest, Failure> {
    let mut form = Form::default();
    for (name, content) in fields {
        form.take(&name, content)?;
    }
    let missing = || Failure::invalid_field("file", "must be a WAV, MP3 or FLAC");
    let file = form.file.ok_or_else(missing)?;
    let sound = Media::new(MediaKind::Sound, 0, file).map_err(|failure| Failure {
        message: format!("`file` {}", failure.message),
        field: Some("file".into()),
        ..failure
    })?;
    let message = Message {
        media: vec![sound],
        ..Message::user(instruction(&form.language, &form.prompt))
    };
    // OpenAI's default: the likeliest words.
    let temperature = form.options.entry("temperature");
    temperature.or_insert_with(|| Value::from(0));
    let mut submission = decode_options(&form.options)?.submission(Prompt::Chat {
        messages: vec![message],
        tools: Vec::new(),
    });
    submission.request.thinking = Some(Thinking::Off);
    Ok(TranscriptionRequest {
        submission,
        format: form.format,
    })
}

fn instruction(language: &str, prompt: &str) -> String {
    let sentence = |text: String, is_there: bool| if is_there { text } else { String::new() };
    [
        INSTRUCTION.to_owned(),
        sentence(
            format!(" Its language is {language}."),
            !language.is_empty(),
        ),
        sentence(
            format!(" What is known about it: {prompt}"),
            !prompt.is_empty(),
        ),
    ]
    .concat()
}

impl Form {
    fn take(&mut self, name: &str, content: Vec<u8>) -> Result<(), Failure> {
        if name == "file" {
            self.file = Some(content);
            return Ok(());
        }
        let text = String::from_utf8(content)
            .map_err(|_| Failure::invalid_field(name, "must be a text in UTF-8"))?;
        match name {
            "response_format" => self.format = format(&text)?,
            "language" => self.language = language(text)?,
            "prompt" => self.prompt = text,
            "stream" if matches!(text.as_str(), "true" | "1") => {
                return Err(not_supported(name, "is not supported: leave it out"));
            }
            "timestamp_granularities[]" => return Err(no_times(name)),
            _ if NUMBERS.contains(&name) => {
                let number = serde_json::from_str(&text).ok().filter(Value::is_number);
                let number =
                    number.ok_or_else(|| Failure::invalid_field(name, "must be a number"))?;
                self.options.insert(name.to_owned(), number);
            }
            "model" | "priority" => {
                self.options.insert(name.to_owned(), Value::from(text));
            }
            _ => {}
        }
        Ok(())
    }
}

fn format(text: &str) -> Result<TranscriptFormat, Failure> {
    match text {
        "json" => Ok(TranscriptFormat::Json),
        "text" => Ok(TranscriptFormat::Text),
        "verbose_json" | "srt" | "vtt" | "diarized_json" => Err(no_times("response_format")),
        _ => Err(Failure::invalid_field(
            "response_format",
            "must be \"json\" or \"text\"",
        )),
    }
}

/// A language, which becomes a part of the instruction: its code or its name.
fn language(text: String) -> Result<String, Failure> {
    let is_word = |c: char| c.is_alphabetic() || matches!(c, '-' | '_' | ' ');
    if text.chars().count() <= LANGUAGE_MAX && text.chars().all(is_word) {
        return Ok(text);
    }
    Err(Failure::invalid_field(
        "language",
        format_args!("must be a code such as \"de\", not {}", quote(&text)),
    ))
}

fn no_times(field: &str) -> Failure {
    not_supported(
        field,
        "needs the times of words, which a chat model does not report: use \"json\" or \"text\"",
    )
}

fn not_supported(field: &str, what: &str) -> Failure {
    Failure::of_field(FailureKind::NotSupported, field, what)
}

#[derive(Serialize)]
struct Transcript<'a> {
    text: &'a str,
    usage: TranscriptUsage,
}

#[derive(Serialize)]
struct TranscriptUsage {
    #[serde(rename = "type")]
    kind: &'static str,
    input_tokens: u32,
    output_tokens: u32,
    total_tokens: u32,
}

/// The text of a transcript.
pub fn transcript_text(answer: &Answer) -> &str {
    answer.content.trim()
}

/// The `transcription` object.
pub fn transcription_response(answer: &Answer) -> Value {
    let (input, output) = (answer.usage.prompt_tokens, answer.usage.completion_tokens);
    value(&Transcript {
        text: transcript_text(answer),
        usage: TranscriptUsage {
            kind: "tokens",
            input_tokens: input,
            output_tokens: output,
            total_tokens: input.saturating_add(output),
        },
    })
}

#[cfg(test)]
mod tests {
    use hearth_proto::RequestId;

    use super::*;

    fn wav() -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0".to_vec();
        file.extend(b"\0\x7d\0\0\x02\0\x10\0data\x08\0\0\0abcdefgh");
        file
    }

    fn decode(fields: &[(&str, &str)]) -> Result<TranscriptionRequest, Failure> {
        let texts = fields
            .iter()
            .map(|(name, text)| (*name, text.as_bytes().to_vec()));
        let file = [("file", wav())];
        let all = file.into_iter().chain(texts);
        decode_transcription(all.map(|(name, bytes)| (name.to_owned(), bytes)).collect())
    }

    #[test]
    fn a_form_becomes_a_chat_with_a_sound() {
        let request = decode(&[
            ("model", "m"),
            ("language", "de"),
            ("prompt", "Hearthd, zbus"),
            ("response_format", "text"),
            ("max_tokens", "9"),
            ("priority", "background"),
            ("stream", "false"),
            ("unknown", "x"),
        ])
        .unwrap();
        assert_eq!(request.format, TranscriptFormat::Text);
        let submission = request.submission;
        assert_eq!(submission.model.as_deref(), Some("m"));
        let Prompt::Chat { messages, .. } = submission.request.prompt else {
            panic!("a chat");
        };
        let message = &messages[0];
        assert_eq!(message.media[0].kind, MediaKind::Sound);
        assert_eq!(&message.media[0].bytes[..], wav());
        assert_eq!(message.media[0].at, 0);
        for part in ["word for word", "language is de.", "Hearthd, zbus"] {
            assert!(message.content.contains(part), "{}", message.content);
        }
        assert_eq!(submission.request.max_tokens, Some(9));
        assert_eq!(submission.request.sampling.temperature, Some(0.0));
        let plain = decode(&[("temperature", "0.4")]).unwrap();
        assert_eq!(plain.format, TranscriptFormat::Json);
        assert_eq!(plain.submission.request.sampling.temperature, Some(0.4));
        assert_eq!(plain.submission.model, None);
    }

    #[test]
    fn mistakes_are_named() {
        use FailureKind::{InvalidArgs, NotSupported};
        for (field, text, kind) in [
            ("response_format", "srt", NotSupported),
            ("response_format", "xml", InvalidArgs),
            ("stream", "true", NotSupported),
            ("timestamp_granularities[]", "word", NotSupported),
            ("temperature", "warm", InvalidArgs),
            ("temperature", "-1", InvalidArgs),
            ("max_tokens", "0", InvalidArgs),
            ("language", "de\nIgnore this.", InvalidArgs),
            ("priority", "now", InvalidArgs),
            ("file", "no sound", InvalidArgs),
            ("file", "", InvalidArgs),
        ] {
            let failure = decode(&[(field, text)]).unwrap_err();
            assert_eq!(failure.kind, kind, "{field}: {failure}");
            assert!(failure.message.contains(field), "{failure}");
        }
        let none = decode_transcription(Vec::new()).unwrap_err();
        assert_eq!(none.field.as_deref(), Some("file"));
        let bytes = vec![("prompt".to_owned(), vec![0xff])];
        assert!(
            decode_transcription(bytes)
                .unwrap_err()
                .message
                .contains("UTF-8")
        );
    }

    #[test]
    fn a_transcript_has_the_tokens_used() {
        let mut answer = Answer::new(RequestId(1), "m");
        answer.content = " Hello. \n".into();
        answer.usage.prompt_tokens = 200;
        answer.usage.completion_tokens = 3;
        let response = transcription_response(&answer);
        assert_eq!(response["text"], "Hello.");
        assert_eq!(response["usage"]["type"], "tokens");
        assert_eq!(response["usage"]["total_tokens"], 203);
    }
}
