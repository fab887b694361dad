//! Tools of MCP servers in a chat: <https://modelcontextprotocol.io>, protocol over the
//! standard input and output of child processes.

mod config;
mod consent;
mod names;
mod outcome;
mod server;

use std::time::Duration;

use clap::Args;
use rmcp::model::Tool;
use rmcp::service::ServiceError;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::answer::ToolCall;
use crate::chat_input::ChatInput;
use crate::error::{CtlError, Result};
use crate::output;
use crate::progress::Progress;
use crate::signals::interrupted;
use config::Config;
use consent::Consent;
use names::Names;
pub use outcome::{Outcome, Status};
use server::{CALL_TIMEOUT, Call, Server};

/// How long the servers may take to start; `npx` and `uvx` may download one first.
const START_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Debug, Args)]
pub struct McpArgs {
    /// Start the MCP servers that this file names under `mcpServers`, and let the model
    /// call their tools. Each call is confirmed unless it is allowed.
    #[arg(long, value_name = "FILE", value_parser = config::file, conflicts_with = "tools")]
    pub mcp: Option<Config>,
    /// Allow the calls of this tool, a name that `/tools` lists; repeat for several.
    #[arg(long, value_name = "TOOL", requires = "mcp")]
    pub allow: Vec<String>,
    /// Allow all calls of all tools.
    #[arg(long, requires = "mcp")]
    pub allow_all: bool,
    /// Answer without tools after the model has called tools this many times in a row.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "mcp")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub tool_rounds: u32,
    /// Give the model at most this many bytes of a result, and a note that it was cut.
    /// A token is about four bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 8192, requires = "mcp")]
    #[arg(value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub tool_result_max: u32,
}

/// The running servers and their tools.
pub struct Toolbox {
    servers: Vec<Server>,
    tools: Vec<Offered>,
    consent: Consent,
    /// The longest text of a result, in bytes.
    result_max: usize,
}

/// A tool as it is offered to the model.
struct Offered {
    /// Unique among all servers.
    name: String,
    /// Index of its server.
    server: usize,
    tool: Tool,
}

impl Toolbox {
    /// Starts the servers at the same time; `None` without `--mcp`. If one fails, none
    /// is left.
    pub async fn start(args: &McpArgs, quiet: bool) -> Result<Option<Self>> {
        let Some(config) = &args.mcp else {
            return Ok(None);
        };
        let _progress = Progress::new("starting the MCP servers", quiet);
        let mut starting = JoinSet::new();
        for (at, config) in config.servers.iter().cloned().enumerate() {
            starting.spawn(async move { (at, Server::start(&config, START_TIMEOUT).await) });
        }
        let mut started = Vec::new();
        let all = tokio::select! {
            biased;
            () = interrupted() => Err(CtlError::Interrupted),
            all = collect(&mut starting, &mut started) => all,
        };
        // Dropping the tasks kills the servers that are still starting.
        starting.shutdown().await;
        started.sort_by_key(|(at, _)| *at);
        let (servers, tools) = started.into_iter().map(|(_, one)| one).unzip();
        let mut toolbox = Self::new(servers, tools);
        match all.and_then(|()| toolbox.permit(config, args)) {
            Ok(()) => Ok(Some(toolbox)),
            Err(e) => {
                toolbox.close().await;
                Err(e)
            }
        }
    }

    fn new(servers: Vec<Server>, tools: Vec<Vec<Tool>>) -> Self {
        let mut names = Names::default();
        let mut offered = Vec::new();
        for (at, (server, tools)) in servers.iter().zip(tools).enumerate() {
            offered.extend(tools.into_iter().map(|tool| Offered {
                name: names.give(&server.name, &tool.name),
                server: at,
                tool,
            }));
        }
        Self {
            servers,
            tools: offered,
            consent: Consent::default(),
            result_max: usize::MAX,
        }
    }

    /// Sets which tools need no question.
    fn permit(&mut self, config: &Config, args: &McpArgs) -> Result {
        if let Some(unknown) = args.allow.iter().find(|name| self.find(name).is_none()) {
            let names: Vec<_> = self.tools.iter().map(|tool| tool.name.as_str()).collect();
            return Err(CtlError::Usage(format!(
                "--allow {unknown}: there is no such tool; there are: {}",
                names.join(", ")
            )));
        }
        let in_file = self.tools.iter().filter(|offered| {
            let server = &self.servers[offered.server].name;
            let config = config.servers.iter().find(|config| config.name == *server);
            let own = offered.tool.name.as_ref();
            config.is_some_and(|config| config.always_allow.iter().any(|name| name == own))
        });
        let allowed = in_file.map(|offered| offered.name.clone());
        let allowed: Vec<_> = allowed.chain(args.allow.iter().cloned()).collect();
        self.consent = Consent::new(args.allow_all, allowed);
        self.result_max = usize::try_from(args.tool_result_max).unwrap_or(usize::MAX);
        Ok(())
    }

    /// The tools in OpenAI's format.
    pub fn definitions(&self) -> Value {
        let one = |offered: &Offered| {
            let tool = &offered.tool;
            let about = tool.description.as_deref().or(tool.title.as_deref());
            json!({ "type": "function", "function": {
                "name": offered.name,
                "description": about.unwrap_or_default(),
                "parameters": *tool.input_schema,
            }})
        };
        self.tools.iter().map(one).collect()
    }

    /// Output of `/tools`: the names, and the first line of what each is for.
    pub fn list(&self) -> String {
        let lines = self.tools.iter().map(|offered| {
            let about = offered.tool.description.as_deref().unwrap_or_default();
            let about = about.trim().lines().next().unwrap_or_default();
            let allowed = if self.consent.has(&offered.name) {
                " (allowed)"
            } else {
                ""
            };
            format!("{}{allowed}  {about}", offered.name)
        });
        let lines: Vec<_> = lines.collect();
        if lines.is_empty() {
            return "the servers have no tools".to_owned();
        }
        output::clean(&lines.join("\n")).into_owned()
    }

    /// Runs a call of the model, if it is allowed. Ctrl-C ends the call and, without a
    /// terminal, the chat.
    pub async fn run(&mut self, call: &ToolCall, input: &mut ChatInput) -> Result<Outcome> {
        let max = self.result_max;
        Ok(self.run_whole(call, input).await?.at_most(max))
    }

    async fn run_whole(&mut self, call: &ToolCall, input: &mut ChatInput) -> Result<Outcome> {
        let Some(offered) = self.find(&call.name) else {
            return Ok(Outcome::error("Error: there is no such tool."));
        };
        let arguments = match &call.arguments {
            Value::Object(arguments) => arguments.clone(),
            Value::Null => serde_json::Map::new(),
            _ => return Ok(Outcome::error("Error: the arguments must be an object.")),
        };
        let (server, tool) = (offered.server, offered.tool.name.clone());
        let shown = format!("{} {}", call.name, call.arguments);
        let allowed = tokio::select! {
            allowed = self.consent.obtain(&call.name, &shown, input) => allowed?,
            () = interrupted() => return Err(CtlError::Interrupted),
        };
        if !allowed {
            return Ok(Outcome::declined());
        }
        let server = &self.servers[server];
        let mut running = match server.call(&tool, arguments).await {
            Ok(running) => running,
            Err(failed) => return Ok(failed),
        };
        let _progress = Progress::new(&format!("running {}", call.name), false);
        let ended = tokio::select! {
            biased;
            ended = wait(&mut running) => Some(ended),
            () = interrupted() => None,
        };
        match ended {
            Some(Ok(outcome)) => Ok(outcome),
            Some(Err(e)) => {
                if matches!(e, ServiceError::Timeout { .. }) {
                    running.cancel("it took too long").await;
                }
                Ok(server.failure(&e).await)
            }
            None => {
                running.cancel("the user cancelled it").await;
                if input.is_terminal() {
                    Ok(Outcome::cancelled())
                } else {
                    Err(CtlError::Interrupted)
                }
            }
        }
    }

    /// Ends the servers.
    pub async fn close(self) {
        let mut closing: JoinSet<()> = self.servers.into_iter().map(Server::close).collect();
        while closing.join_next().await.is_some() {}
    }

    fn find(&self, name: &str) -> Option<&Offered> {
        self.tools.iter().find(|offered| offered.name == name)
    }
}

type Started = (Server, Vec<Tool>);

/// Waits for the servers; what has started stays in `started`.
async fn collect(
    starting: &mut JoinSet<(usize, Result<Started>)>,
    started: &mut Vec<(usize, Started)>,
) -> Result {
    while let Some(next) = starting.join_next().await {
        let (at, one) = next.map_err(|e| CtlError::McpServer(e.to_string()))?;
        started.push((at, one?));
    }
    Ok(())
}

async fn wait(call: &mut Call) -> Result<Outcome, ServiceError> {
    let timeout = CALL_TIMEOUT;
    match tokio::time::timeout(timeout, call.result()).await {
        Ok(ended) => ended,
        Err(_) => Err(ServiceError::Timeout { timeout }),
    }
}
