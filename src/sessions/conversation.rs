//! The messages of a session, and what the next turn begins with.

use hearth_api::openai::{Tools, call_id};
use hearth_proto::{Answer, Failure, Message, RequestOptions};
use serde_json::{Map, Value, json};

/// The messages so far, and the settings for further turns.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversation {
    /// Options of every turn.
    pub(super) options: RequestOptions,
    /// The fields of a request that concern tools, for every turn.
    pub(super) tools: Map<String, Value>,
    pub(super) messages: Vec<Message>,
    /// The user's text since the last answer.
    appended: String,
}

impl Conversation {
    /// One that begins with a system prompt; an empty one is none.
    pub(super) fn new(system: String, options: RequestOptions, tools: Map<String, Value>) -> Self {
        let system = Message {
            role: "system".into(),
            content: system,
            ..Message::default()
        };
        Self {
            options,
            tools,
            messages: Some(system)
                .into_iter()
                .filter(|message| !message.content.is_empty())
                .collect(),
            appended: String::new(),
        }
    }

    /// Adds to the user's next turn. It becomes one turn: many chat templates require user
    /// and assistant to alternate.
    pub(super) fn append(&mut self, text: &str) {
        if !self.appended.is_empty() && !text.is_empty() {
            self.appended.push_str("\n\n");
        }
        self.appended.push_str(text);
    }

    /// Adds the result of a call of the last answer.
    ///
    /// # Errors
    /// `InvalidArgs` where that answer has no such call, or its result is there.
    pub(super) fn add_result(&mut self, call: &str, content: &str) -> Result<(), Failure> {
        let open = self.open_calls();
        if !open.iter().any(|id| id == call) {
            return Err(Failure::invalid(if open.is_empty() {
                format!("there is no call {call:?} without a result: no call waits for one")
            } else {
                format!(
                    "there is no call {call:?} without a result: those are {}",
                    open.join(", ")
                )
            }));
        }
        self.messages.push(Message {
            role: "tool".into(),
            content: content.to_owned(),
            tool_call_id: Some(call.to_owned()),
            ..Message::default()
        });
        Ok(())
    }

    /// The ids of the calls of the last answer that have no result yet.
    fn open_calls(&self) -> Vec<String> {
        let mut answered = Vec::new();
        for message in self.messages.iter().rev() {
            if let Some(id) = &message.tool_call_id {
                answered.push(id.as_str());
                continue;
            }
            let ids = message
                .tool_calls
                .iter()
                .filter_map(|call| call["id"].as_str());
            let open = ids.filter(|id| !answered.contains(id));
            return open.map(str::to_owned).collect();
        }
        Vec::new()
    }

    /// Adds the appended text as the user's turn; none where only results of calls are new.
    ///
    /// # Errors
    /// `InvalidArgs` where there is nothing to answer, or the result of a call is missing.
    pub(super) fn take_turn(&mut self) -> Result<(), Failure> {
        let open = self.open_calls();
        if !open.is_empty() {
            return Err(Failure::invalid(format!(
                "the model waits for the results of its calls {}: pass them to `AddToolResult`",
                open.join(", ")
            )));
        }
        let text = std::mem::take(&mut self.appended);
        let has_results = self.messages.last().is_some_and(|m| m.role == "tool");
        if !text.trim().is_empty() {
            self.messages.push(Message::user(text));
        } else if !has_results {
            return Err(Failure::invalid(
                "there is nothing to answer: pass a text, or append one first",
            ));
        }
        Ok(())
    }

    /// The tools of a turn whose own fields go before those of the session.
    ///
    /// # Errors
    /// `InvalidArgs` naming a field.
    pub(super) fn tools_of(&self, turn: &Map<String, Value>) -> Result<Tools, Failure> {
        let mut fields = self.tools.clone();
        fields.extend(turn.clone());
        Tools::decode(&fields)
    }

    /// Adds the model's turn.
    pub(super) fn add_answer(&mut self, answer: &Answer) {
        let calls = answer.calls.iter().enumerate().map(|(n, call)| {
            json!({
                "id": call_id(answer.id, n),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            })
        });
        self.messages.push(Message {
            role: "assistant".into(),
            content: answer.content.clone(),
            reasoning_content: answer.reasoning.clone(),
            tool_calls: calls.collect(),
            ..Message::default()
        });
    }

    /// Bytes of text in the conversation.
    pub(super) fn bytes(&self) -> usize {
        let of_calls = |m: &Message| m.tool_calls.iter().map(|call| call.to_string().len()).sum();
        let messages = self.messages.iter().map(|m| {
            let calls: usize = of_calls(m);
            m.content.len() + m.reasoning_content.len() + calls
        });
        let tools = self.tools.values().map(|value| value.to_string().len());
        messages.chain(tools).sum::<usize>() + self.appended.len()
    }

    /// The bytes of the text that was appended, to take back a text that is too long.
    pub(super) fn appended_len(&self) -> usize {
        self.appended.len()
    }

    /// Takes back what was appended after the text had this length.
    pub(super) fn truncate_appended(&mut self, len: usize) {
        self.appended.truncate(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_proto::{RequestId, ToolCall};

    fn with_calls(names: &[&str]) -> (Conversation, Vec<String>) {
        let mut conversation = Conversation::default();
        conversation.append("hello");
        conversation.take_turn().unwrap();
        let id = RequestId::new(1, 7);
        let mut answer = Answer::new(id, "m");
        answer.calls = names
            .iter()
            .map(|name| ToolCall::new(*name, json!({})))
            .collect();
        conversation.add_answer(&answer);
        (
            conversation,
            (0..names.len()).map(|n| call_id(id, n)).collect(),
        )
    }

    #[test]
    fn calls_wait_for_their_results() {
        let (mut conversation, ids) = with_calls(&["a", "b"]);
        let failure = conversation.take_turn().unwrap_err();
        assert!(failure.message.contains(&ids[1]), "{failure}");
        conversation.add_result(&ids[1], "2").unwrap();
        assert!(conversation.take_turn().is_err());
        assert!(conversation.add_result(&ids[1], "3").is_err(), "it has one");
        assert!(conversation.add_result("other", "3").is_err());
        conversation.add_result(&ids[0], "1").unwrap();
        conversation.take_turn().unwrap();
        let roles: Vec<&str> = conversation
            .messages
            .iter()
            .map(|m| m.role.as_str())
            .collect();
        assert_eq!(roles, ["user", "assistant", "tool", "tool"]);
    }

    #[test]
    fn a_turn_needs_a_text_or_results() {
        let (mut conversation, _) = with_calls(&[]);
        conversation.append(" ");
        assert!(conversation.take_turn().is_err());
        conversation.append("more");
        conversation.take_turn().unwrap();
        assert_eq!(conversation.messages.last().unwrap().content, "more");
    }
}
