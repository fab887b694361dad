//! The prompts (`prompts.json`).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

/// A prompt: its text as the model reads it, and the chat that it comes from.
pub struct Prompt {
    pub name: String,
    pub kind: String,
    pub text: String,
    /// `messages` and `tools`.
    pub chat: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    kind: String,
    /// The text itself,
    text: Option<String>,
    /// or `characters` bytes of a file of this repository from `from` on, followed by
    /// `then`,
    file: Option<PathBuf>,
    #[serde(default)]
    from: usize,
    #[serde(default)]
    characters: usize,
    #[serde(default)]
    then: String,
    /// or a chat.
    messages: Option<Value>,
    #[serde(default)]
    tools: Value,
}

/// All prompts. `rendered` is a file with the texts of the chats by their names, as the
/// model's own template renders them; without one they are `ChatML`.
pub fn prompts(rendered: Option<PathBuf>) -> Vec<Prompt> {
    let rendered: Value = rendered.map_or(Value::Null, |path| {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap()
    });
    let entries: Vec<Entry> = serde_json::from_str(include_str!("prompts.json")).unwrap();
    entries.into_iter().map(|e| prompt(e, &rendered)).collect()
}

fn prompt(entry: Entry, rendered: &Value) -> Prompt {
    let text = match (&entry.text, &entry.file, &entry.messages) {
        (Some(text), None, None) => text.clone(),
        (None, Some(file), None) => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            let all = std::fs::read_to_string(root.join(file)).unwrap();
            let part = &all[entry.from..entry.from + entry.characters];
            format!("{part}{}", entry.then)
        }
        (None, None, Some(messages)) => match rendered[&entry.name].as_str() {
            Some(text) => text.to_owned(),
            None => chatml(messages),
        },
        _ => panic!("{}: one of text, file and messages", entry.name),
    };
    let chat = entry
        .messages
        .map(|messages| json!({"messages": messages, "tools": entry.tools}));
    Prompt {
        name: entry.name,
        kind: entry.kind,
        text,
        chat,
    }
}

fn chatml(messages: &Value) -> String {
    let turns = messages.as_array().unwrap().iter().map(|message| {
        let (role, content) = (&message["role"], &message["content"]);
        let (role, content) = (role.as_str().unwrap(), content.as_str().unwrap());
        format!("<|im_start|>{role}\n{content}<|im_end|>\n")
    });
    turns.collect::<String>() + "<|im_start|>assistant\n"
}
