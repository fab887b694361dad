//! What came of a call, as text for the model.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// The tool or its server reported an error.
    Error,
    /// The user, or the lack of one, did not allow it.
    Declined,
    /// Ctrl-C.
    Cancelled,
}

impl Status {
    /// As `--json` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    /// For the model.
    pub text: String,
}

impl Outcome {
    /// A call that did not succeed.
    pub fn error(text: impl Into<String>) -> Self {
        Self {
            status: Status::Error,
            text: text.into(),
        }
    }

    /// A call that was not allowed.
    pub fn declined() -> Self {
        Self {
            status: Status::Declined,
            text: "The user declined this call. Do not repeat it.".to_owned(),
        }
    }

    /// A call that the user ended.
    pub fn cancelled() -> Self {
        Self {
            status: Status::Cancelled,
            text: "The user cancelled this call before it ended.".to_owned(),
        }
    }

    /// Cuts a long text at the end of a character and says so.
    pub fn at_most(mut self, bytes: usize) -> Self {
        if self.text.len() > bytes {
            let end = self.text.floor_char_boundary(bytes);
            let all = self.text.len();
            let kept = &self.text[..end];
            self.text = format!("{kept}\n[The result was cut: the first {end} of {all} bytes.]");
        }
        self
    }

    /// The server's answer.
    pub fn of(result: &CallToolResult) -> Self {
        let mut parts: Vec<String> = result.content.iter().map(describe).collect();
        // Servers repeat the structured form as text, but need not.
        if parts.is_empty()
            && let Some(value) = &result.structured_content
        {
            parts.push(value.to_string());
        }
        if parts.is_empty() {
            parts.push("(no content)".to_owned());
        }
        let text = parts.join("\n");
        if result.is_error == Some(true) {
            Self::error(format!("Error: {text}"))
        } else {
            Self {
                status: Status::Ok,
                text,
            }
        }
    }
}

/// A part of a result; what is not text is described.
fn describe(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => binary("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => binary("audio", &audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("{uri}:\n{text}"),
            ResourceContents::BlobResourceContents {
                uri,
                mime_type,
                blob,
                ..
            } => binary(uri, mime_type.as_deref().unwrap_or("unknown type"), blob),
            _ => "(a resource of an unknown kind)".to_owned(),
        },
        ContentBlock::ResourceLink(link) => {
            let about = link.description.as_deref().unwrap_or(&link.name);
            format!("(link to {}: {about})", link.uri)
        }
        _ => "(content of an unknown kind)".to_owned(),
    }
}

fn binary(what: &str, mime: &str, base64: &str) -> String {
    format!(
        "({what}, {mime}, {} bytes, not shown)",
        base64.len() / 4 * 3
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(result: serde_json::Value) -> Outcome {
        Outcome::of(&serde_json::from_value(result).unwrap())
    }

    #[test]
    fn contents_become_text() {
        let all = outcome(json!({"content": [
            {"type": "text", "text": "31 degrees"},
            {"type": "image", "mimeType": "image/png", "data": "AAAAAAAA"},
            {"type": "audio", "mimeType": "audio/wav", "data": "AAAA"},
            {"type": "resource", "resource": {"uri": "file:///a", "text": "of a"}},
            {"type": "resource", "resource": {"uri": "file:///b", "blob": "AAAA"}},
            {"type": "resource_link", "uri": "file:///c", "name": "c"},
        ]}));
        assert_eq!(all.status, Status::Ok);
        assert_eq!(
            all.text,
            "31 degrees\n(image, image/png, 6 bytes, not shown)\n\
             (audio, audio/wav, 3 bytes, not shown)\nfile:///a:\nof a\n\
             (file:///b, unknown type, 3 bytes, not shown)\n(link to file:///c: c)"
        );
        assert_eq!(
            outcome(json!({"content": [], "structuredContent": {"a": 1}})).text,
            r#"{"a":1}"#
        );
        assert_eq!(outcome(json!({"content": []})).text, "(no content)");
        let failed = outcome(json!({"isError": true, "content": [{"type": "text", "text": "no"}]}));
        assert_eq!(failed, Outcome::error("Error: no"));
    }

    #[test]
    fn long_results_are_cut_between_characters() {
        let all = Outcome::error("x".to_owned() + &"é".repeat(100));
        assert_eq!(all.clone().at_most(201), all);
        let cut = all.at_most(100);
        let (kept, note) = cut.text.rsplit_once('\n').unwrap();
        assert_eq!(kept.len(), 99);
        assert_eq!(note, "[The result was cut: the first 99 of 201 bytes.]");
    }
}
