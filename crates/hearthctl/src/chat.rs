//! `chat`: a conversation. The whole conversation is sent with each turn; the prefix
//! cache of the service has the part that it has already computed.

use clap::Args;

use crate::answer::{Answer, OutputMode, ToolCall};
use crate::bus::{self, Bus};
use crate::chat_input::ChatInput;
use crate::error::{CtlError, Result};
use crate::global::Global;
use crate::output;
use crate::request::{self, PRIORITIES, QueueArgs, RequestArgs, Turn};
use crate::signals::interrupted;

/// Output of `/help`.
const HELP: &str = "\
/help         this list
/clear        delete the conversation, keep the system prompt
/system TEXT  set the system prompt; show it if TEXT is omitted
/stats        speed and size of the last answer and of the conversation
/quit         exit (also Ctrl-D)
Ctrl-C        stop the answer, keep the conversation";

#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub request: RequestArgs,
    /// Scheduling priority of the requests.
    #[arg(long, default_value = "interactive", value_parser = PRIORITIES)]
    pub priority: String,
}

/// `hearthctl chat`.
pub async fn run(global: &Global, args: &ChatArgs) -> Result {
    let mut input = ChatInput::open()?;
    let mut chat = Chat {
        bus: bus::connect(global).await?,
        args: args.request.clone(),
        priority: args.priority.clone(),
        mode: if global.json {
            OutputMode::Events
        } else {
            OutputMode::Text
        },
        turns: Vec::new(),
        last: None,
    };
    if input.is_terminal() {
        output::note("/help lists the commands, Ctrl-D exits");
    }
    let is_terminal = input.is_terminal();
    while let Some(line) = next_line(&mut input).await? {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let ended = match Slash::parse(line) {
            Some(Slash::Quit) => break,
            Some(command) => {
                chat.execute(&command);
                continue;
            }
            None => chat.turn(line).await,
        };
        match ended {
            Err(e) if is_terminal && !e.is_broken_pipe() => {
                // The conversation continues; the user decides what to do.
                if !matches!(e, CtlError::Interrupted) {
                    output::report(&e, global.json);
                }
            }
            // A script needs the exit code.
            other => other?,
        }
    }
    Ok(())
}

/// The next line; Ctrl-C ends a chat whose lines come from a pipe. The editor
/// sees Ctrl-C as a key.
async fn next_line(input: &mut ChatInput) -> Result<Option<String>> {
    tokio::select! {
        line = input.next() => line,
        () = interrupted() => Err(CtlError::Interrupted),
    }
}

/// The state of a conversation.
struct Chat {
    bus: Bus,
    args: RequestArgs,
    priority: String,
    mode: OutputMode,
    turns: Vec<Turn>,
    last: Option<Answer>,
}

impl Chat {
    /// Sends a message and prints the answer.
    async fn turn(&mut self, text: &str) -> Result {
        self.turns.push(Turn::user(text));
        let request = request::chat(&self.turns, &self.args);
        let options = request::options(&self.priority, &QueueArgs::default());
        let mut answer = Answer::new(self.mode);
        let received = tokio::select! {
            biased;
            received = answer.receive(&self.bus, &request, &options) => received,
            () = interrupted() => Err(CtlError::Interrupted),
        };
        answer.end_line()?;
        // Text that was printed stays in the conversation. A message without any answer
        // is removed: templates require alternating roles.
        if answer.text.is_empty() && answer.calls.is_empty() {
            self.turns.pop();
        } else {
            let calls = answer.calls.iter().map(ToolCall::to_json).collect();
            self.turns.push(Turn::assistant(&answer.text, calls));
        }
        self.last = Some(answer);
        received
    }

    fn execute(&mut self, command: &Slash<'_>) {
        match command {
            // Handled by the caller.
            Slash::Quit => {}
            Slash::Help => output::note(HELP),
            Slash::Clear => {
                self.turns.clear();
                output::note("conversation deleted");
            }
            Slash::System("") => {
                output::note(self.args.system.as_deref().unwrap_or("no system prompt"));
            }
            Slash::System(text) => {
                self.args.system = Some((*text).to_owned());
                output::note("system prompt set");
            }
            Slash::Stats => output::note(&self.stats()),
            Slash::Unknown(word) => output::note(&format!("no command {word}: try /help")),
        }
    }

    fn stats(&self) -> String {
        let Some(answer) = &self.last else {
            return "no answer yet".to_owned();
        };
        let tokens = answer.usage.prompt_tokens + answer.usage.completion_tokens;
        format!(
            "last answer: {}\nconversation: {} messages, {tokens} tokens",
            answer.stats(),
            self.turns.len(),
        )
    }
}

/// A chat command, which is not sent to the model.
#[derive(Debug, PartialEq, Eq)]
enum Slash<'a> {
    Help,
    Clear,
    System(&'a str),
    Stats,
    Quit,
    Unknown(&'a str),
}

impl<'a> Slash<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if !line.starts_with('/') {
            return None;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Some(match word {
            "/help" | "/?" => Self::Help,
            "/clear" => Self::Clear,
            "/system" => Self::System(rest.trim()),
            "/stats" => Self::Stats,
            "/quit" | "/exit" => Self::Quit,
            // A path such as /etc/fstab is a message.
            word if word[1..].contains('/') => return None,
            word => Self::Unknown(word),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_distinguished_from_messages() {
        assert_eq!(Slash::parse("hello /help"), None);
        assert_eq!(Slash::parse("/etc/fstab is what?"), None);
        assert_eq!(Slash::parse("/help"), Some(Slash::Help));
        assert_eq!(
            Slash::parse("/system  be brief "),
            Some(Slash::System("be brief"))
        );
        assert_eq!(Slash::parse("/system"), Some(Slash::System("")));
        assert_eq!(Slash::parse("/foo bar"), Some(Slash::Unknown("/foo")));
    }
}
