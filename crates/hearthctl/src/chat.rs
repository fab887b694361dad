//! `chat`: a conversation. The whole conversation is sent with each turn; the prefix
//! cache of the service has the part that it has already computed.

mod slash;

use clap::Args;
use serde_json::json;

use crate::answer::{Answer, OutputMode, ToolCall};
use crate::bus::{self, Bus};
use crate::chat_input::ChatInput;
use crate::error::{CtlError, Result};
use crate::global::Global;
use crate::mcp::{McpArgs, Outcome, Status, Toolbox};
use crate::output;
use crate::request::{self, PRIORITIES, QueueArgs, RequestArgs, Turn};
use crate::signals::interrupted;
use slash::{HELP, Slash};

#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub request: RequestArgs,
    /// Scheduling priority of the requests.
    #[arg(long, default_value = "interactive", value_parser = PRIORITIES)]
    pub priority: String,
    #[command(flatten)]
    pub mcp: McpArgs,
}

/// `hearthctl chat`.
pub async fn run(global: &Global, args: &ChatArgs) -> Result {
    let mut input = ChatInput::open()?;
    let bus = bus::connect(global).await?;
    let toolbox = Toolbox::start(&args.mcp, global.is_json()).await?;
    let mut request = args.request.clone();
    if let Some(toolbox) = &toolbox {
        request.tools = Some(toolbox.definitions());
    }
    let mut chat = Chat {
        bus,
        args: request,
        priority: args.priority.clone(),
        mode: if global.is_json() {
            OutputMode::Events
        } else {
            OutputMode::Text
        },
        turns: Vec::new(),
        last: None,
        toolbox,
        tool_rounds: args.mcp.tool_rounds,
    };
    if input.is_terminal() {
        output::note("/help lists the commands, Ctrl-D exits");
    }
    let ended = chat.converse(&mut input, global.is_json()).await;
    if let Some(toolbox) = chat.toolbox.take() {
        toolbox.close().await;
    }
    ended
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
    /// Tools of MCP servers.
    toolbox: Option<Toolbox>,
    /// How often in a row the model may call tools.
    tool_rounds: u32,
}

impl Chat {
    /// Reads messages and commands to the end of the input.
    async fn converse(&mut self, input: &mut ChatInput, json: bool) -> Result {
        let is_terminal = input.is_terminal();
        while let Some(line) = next_line(input).await? {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let ended = match Slash::parse(line) {
                Some(Slash::Quit) => break,
                Some(command) => {
                    self.execute(&command);
                    continue;
                }
                None => self.turn(line, input).await,
            };
            match ended {
                Err(e) if is_terminal && !e.is_broken_pipe() => {
                    // The conversation continues; the user decides what to do.
                    if !matches!(e, CtlError::Interrupted) {
                        output::report(&e, json);
                    }
                }
                // A script needs the exit code.
                other => other?,
            }
        }
        Ok(())
    }

    /// Sends a message and prints the answer.
    async fn turn(&mut self, text: &str, input: &mut ChatInput) -> Result {
        let start = self.turns.len();
        self.turns.push(Turn::user(text));
        let ended = self.rounds(input).await;
        // A message without any answer is removed, with the calls that it led to:
        // templates require alternating roles, and a result for each call.
        let is_answered = self.turns.last().is_some_and(|last| {
            last.role == "assistant" && (self.toolbox.is_none() || last.calls.is_empty())
        });
        if !is_answered {
            self.turns.truncate(start);
        }
        ended
    }

    /// Answers until the model calls no more tools.
    async fn rounds(&mut self, input: &mut ChatInput) -> Result {
        for round in 0.. {
            let is_last = round == self.tool_rounds;
            self.args.tool_choice = is_last.then_some("none");
            let calls = self.answer().await?;
            let Some(toolbox) = self.toolbox.as_mut().filter(|_| !is_last) else {
                break;
            };
            if calls.is_empty() {
                break;
            }
            for call in &calls {
                let outcome = toolbox.run(call, input).await?;
                self.turns.push(Turn::tool(&call.id, &outcome.text));
                show(self.mode, call, &outcome)?;
            }
            if round + 1 == self.tool_rounds {
                output::note("the model has called tools often enough (--tool-rounds)");
            }
        }
        Ok(())
    }

    /// Asks for the next answer, prints it, and adds it to the conversation; returns the
    /// calls that are to be run.
    async fn answer(&mut self) -> Result<Vec<ToolCall>> {
        let request = request::chat(&self.turns, &self.args);
        let options = request::options(&self.priority, &QueueArgs::default());
        let mut answer = Answer::new(self.mode);
        let received = tokio::select! {
            biased;
            received = answer.receive(&self.bus, &request, &options) => received,
            () = interrupted() => Err(CtlError::Interrupted),
        };
        answer.end_line()?;
        // The calls of an incomplete answer are not run.
        let calls = match (&self.toolbox, &received) {
            (Some(_), Err(_)) => Vec::new(),
            (Some(_), Ok(())) if self.args.tool_choice.is_some() => Vec::new(),
            _ => answer.calls.clone(),
        };
        // Text that was printed stays in the conversation.
        if !answer.text.is_empty() || !calls.is_empty() {
            let calls = calls.iter().map(ToolCall::to_json).collect();
            self.turns.push(Turn::assistant(&answer.text, calls));
        }
        self.last = Some(answer);
        received.map(|()| calls)
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
            Slash::Tools => output::note(&match &self.toolbox {
                Some(toolbox) => toolbox.list(),
                None => "no MCP servers: start the chat with --mcp FILE".to_owned(),
            }),
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

/// Tells the user what came of a call.
fn show(mode: OutputMode, call: &ToolCall, outcome: &Outcome) -> Result {
    if mode == OutputMode::Events {
        return output::json(&json!({
            "type": "tool_result",
            "id": call.id,
            "name": call.name,
            "status": outcome.status.as_str(),
            "content": outcome.text,
        }));
    }
    let text = outcome.text.as_str();
    let first = text.lines().next().unwrap_or_default();
    let told = match outcome.status {
        Status::Ok => format!("{} returned {} bytes", call.name, text.len()),
        Status::Error => format!("{} failed: {first}", call.name),
        Status::Declined => format!("{} was declined", call.name),
        Status::Cancelled => format!("{} was cancelled", call.name),
    };
    output::note(&output::clean(&told));
    Ok(())
}
