//! One answer: reads its events from the service's pipe and prints it.

use std::time::{Duration, Instant};

use hearth_proto::Usage;
use serde_json::{Value, json};

pub use hearth_client::ToolCall;
use hearth_client::{Event, EventLine, Events};

use crate::bus::{Bus, Options};
use crate::error::{CtlError, Result};
use crate::formatter::Formatter;
use crate::output;
use crate::progress::Progress;

/// How often to query the service's state before the answer begins.
const STATE_POLL: Duration = Duration::from_millis(700);

/// What is written to standard output, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputMode {
    /// The text, as it arrives.
    Text,
    /// The events, line by line as they arrive.
    Events,
    /// Nothing; the caller prints the complete answer.
    Nothing,
}

/// An answer as received so far.
#[derive(Debug)]
pub struct Answer {
    /// The text so far.
    pub text: String,
    /// The reasoning before the answer.
    pub reasoning: String,
    /// The tools it called.
    pub calls: Vec<ToolCall>,
    /// Tokens so far.
    pub generated: u32,
    /// Finish reason; empty while the answer is incomplete.
    pub reason: String,
    /// Token usage, known at the end.
    pub usage: Usage,
    /// From the request to the first token.
    pub first_token: Option<Duration>,
    asked: Instant,
    mode: OutputMode,
    formatter: Formatter,
}

impl Answer {
    /// An empty answer; starts the clock for the first token.
    #[expect(
        clippy::disallowed_methods,
        reason = "the time to the first token is measured as the user experiences it"
    )]
    pub fn new(mode: OutputMode) -> Self {
        Self {
            text: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            formatter: Formatter::new(output::stdout_is_terminal()),
            generated: 0,
            reason: String::new(),
            usage: Usage::default(),
            first_token: None,
            asked: Instant::now(),
            mode,
        }
    }

    /// Sends the request and reads the answer to its end. Dropping the future closes the
    /// pipe, which cancels the request; what was received until then is in `self`.
    pub async fn receive(&mut self, bus: &Bus, request: &str, options: &Options<'_>) -> Result {
        let mut progress = Progress::new("waiting", self.mode == OutputMode::Events);
        let (_job, pipe) = tokio::select! {
            opened = bus.service.open_stream(request, options) => opened?,
            never = watch_state(bus, &progress) => never,
        };
        let mut events = Events::new(pipe)?;
        let mut prompt_tokens = 0;
        loop {
            let line = next_line(&mut events, bus, &progress, prompt_tokens > 0).await?;
            let event = line.event;
            // A failure is reported once, in the form that all failures have.
            if self.mode == OutputMode::Events && !matches!(event, Event::Failed { .. }) {
                output::line(&line.text)?;
            }
            match event {
                Event::Queued { position: 0 } => progress.say("next in the queue"),
                Event::Queued { position } => {
                    progress.say(&format!("{position} requests ahead in the queue"));
                }
                Event::Started {
                    prompt_tokens: n,
                    cached_tokens,
                } => {
                    prompt_tokens = n.max(1);
                    progress.tokens("processing the prompt", cached_tokens, prompt_tokens);
                }
                Event::Prefill { done } => {
                    progress.tokens("processing the prompt", done, prompt_tokens);
                }
                Event::Unknown => {}
                event => {
                    progress.clear();
                    if self.add(event)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Adds a part of the answer; returns whether it is complete.
    fn add(&mut self, event: Event) -> Result<bool> {
        match event {
            Event::Token { text, generated } => {
                self.count(generated);
                let shown = self.formatter.content(&text);
                self.text.push_str(&text);
                self.write(&shown)?;
            }
            Event::Reasoning { text, generated } => {
                self.count(generated);
                let shown = self.formatter.reasoning(&text);
                self.reasoning.push_str(&text);
                self.write(&shown)?;
            }
            Event::ToolCall { call, generated } => {
                self.count(generated);
                let arguments = call.arguments.to_string();
                let shown = self.formatter.call(&call.name, &arguments);
                self.calls.push(call);
                self.write(&shown)?;
            }
            Event::Finished { reason, usage } => {
                self.reason = reason;
                self.usage = usage;
                return Ok(true);
            }
            Event::Failed { kind, message } => return Err(CtlError::named(kind, message)),
            Event::Queued { .. }
            | Event::Started { .. }
            | Event::Prefill { .. }
            | Event::Unknown => {}
        }
        Ok(false)
    }

    /// Ends the last line of a streamed text, so that the next output starts a new line.
    pub fn end_line(&mut self) -> Result {
        let end = self.formatter.end();
        self.write(&end)
    }

    /// The complete answer as text.
    pub fn to_text(&self) -> String {
        let mut formatter = Formatter::new(output::stdout_is_terminal());
        let mut text = formatter.reasoning(&self.reasoning);
        text += &formatter.content(&self.text);
        for call in &self.calls {
            text += &formatter.call(&call.name, &call.arguments.to_string());
        }
        text + &formatter.end()
    }

    /// `42 tokens, 12.3 tok/s, first token 0.8 s`.
    pub fn stats(&self) -> String {
        let tokens = self.generated.max(self.usage.completion_tokens);
        let mut parts = vec![format!(
            "{tokens} token{}",
            if tokens == 1 { "" } else { "s" }
        )];
        let speed = self.usage.tokens_per_second();
        if speed > 0.0 {
            parts.push(format!("{speed:.1} tok/s"));
        }
        if let Some(first) = self.first_token {
            parts.push(format!("first token {:.1} s", first.as_secs_f64()));
        }
        if self.usage.cached_tokens > 0 {
            parts.push(format!(
                "{} of {} prompt tokens from the cache",
                self.usage.cached_tokens, self.usage.prompt_tokens
            ));
        }
        if self.reason == "length" {
            parts.push("truncated at the length limit".to_owned());
        }
        parts.join(", ")
    }

    /// The complete answer as one document, with reasoning and tool calls if there are
    /// any.
    pub fn to_json(&self) -> Value {
        let mut document = json!({ "text": self.text, "reason": self.reason, "usage": self.usage });
        if !self.reasoning.is_empty() {
            document["reasoning"] = self.reasoning.as_str().into();
        }
        if !self.calls.is_empty() {
            document["tool_calls"] = self.calls.iter().map(ToolCall::to_json).collect();
        }
        document
    }

    fn count(&mut self, generated: u32) {
        if self.first_token.is_none() {
            self.first_token = Some(self.asked.elapsed());
        }
        self.generated = generated;
    }

    fn write(&self, text: &str) -> Result {
        if self.mode == OutputMode::Text && !text.is_empty() {
            output::write(text)?;
        }
        Ok(())
    }
}

/// The next line. A pipe that ends without a final event means that the service has
/// ended.
async fn next_line(
    events: &mut Events,
    bus: &Bus,
    progress: &Progress,
    started: bool,
) -> Result<EventLine> {
    let line = if started {
        events.next().await
    } else {
        tokio::select! {
            line = events.next() => line,
            never = watch_state(bus, progress) => never,
        }
    };
    line?.ok_or_else(|| {
        CtlError::Unreachable("the service ended before the answer was complete".into())
    })
}

/// Shows that the model is being loaded, which is why no answer arrives.
async fn watch_state<T>(bus: &Bus, progress: &Progress) -> T {
    if progress.is_shown() {
        loop {
            tokio::time::sleep(STATE_POLL).await;
            // For display only: errors are reported by the request itself.
            if bus
                .service
                .state()
                .await
                .is_ok_and(|state| state == "loading")
            {
                progress.say("loading the model");
            }
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_reasoning_and_calls_if_there_are_any() {
        let mut answer = Answer::new(OutputMode::Nothing);
        answer.text = "Yes.".into();
        let plain = answer.to_json();
        assert!(plain["reasoning"].is_null() && plain["tool_calls"].is_null());
        answer.reasoning = "Hm.".into();
        answer.calls.push(ToolCall {
            id: "1".into(),
            name: "f".into(),
            arguments: json!({"x": 1}),
        });
        let document = answer.to_json();
        assert_eq!(document["reasoning"], "Hm.");
        assert_eq!(
            document["tool_calls"][0]["function"],
            json!({"name": "f", "arguments": "{\"x\":1}"})
        );
    }

    #[test]
    fn statistics_contain_what_is_known() {
        let mut answer = Answer::new(OutputMode::Nothing);
        assert_eq!(answer.stats(), "0 tokens");
        answer.generated = 42;
        answer.first_token = Some(Duration::from_millis(800));
        answer.usage.completion_tokens = 42;
        answer.usage.decode_ms = 42_000.0 / 12.3;
        assert_eq!(answer.stats(), "42 tokens, 12.3 tok/s, first token 0.8 s");
        answer.reason = "length".into();
        assert!(answer.stats().ends_with("truncated at the length limit"));
    }
}
