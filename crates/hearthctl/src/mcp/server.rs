//! One MCP server: a child process that speaks JSON-RPC on its standard input and output.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rmcp::ServiceExt as _;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest,
    Implementation, JsonObject, ServerResult, Tool,
};
use rmcp::service::{
    ClientInitializeError, PeerRequestOptions, RequestHandle, RoleClient, RunningService,
    ServiceError,
};
use rmcp::transport::TokioChildProcess;
use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStderr, Command};
use tokio::sync::Notify;

use super::config::ServerConfig;
use super::outcome::Outcome;
use crate::error::{CtlError, Result};

/// How long a call may take.
pub const CALL_TIMEOUT: Duration = Duration::from_mins(5);
/// How long a server gets to end, after which it is killed. `rmcp` closes its input, and
/// sends SIGTERM after three seconds.
const END_TIMEOUT: Duration = Duration::from_secs(7);
/// How much of a server's standard error an error message has, in bytes.
const TAIL: usize = 1000;
/// How long to wait for it once the server has ended.
const TAIL_TIMEOUT: Duration = Duration::from_millis(300);

/// A running server.
pub struct Server {
    pub name: String,
    client: RunningService<RoleClient, ClientConfig>,
    tail: Tail,
    /// Dropped last: kills what is left.
    _group: Group,
}

impl Server {
    /// Starts it and lists its tools, within `limit`.
    pub async fn start(config: &ServerConfig, limit: Duration) -> Result<(Self, Vec<Tool>)> {
        let tail = Tail::new(config);
        let started = tokio::time::timeout(limit, start(config, tail.clone())).await;
        let why = match started {
            Ok(Ok(started)) => return Ok(started),
            Ok(Err(why)) => why,
            Err(_) => format!("it did not answer within {} s", limit.as_secs()),
        };
        Err(CtlError::McpServer(format!(
            "the MCP server {:?} failed to start: {why}{}",
            config.name,
            tail.last_output().await
        )))
    }

    /// Calls a tool. Dropping the future leaves the call running; see [`Call::cancel`].
    pub async fn call(&self, tool: &str, arguments: JsonObject) -> Result<Call, Outcome> {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let handle = self
            .client
            .send_cancellable_request(request, PeerRequestOptions::no_options());
        match handle.await {
            Ok(handle) => Ok(Call(handle)),
            Err(e) => Err(self.failure(&e).await),
        }
    }

    /// The error for the model.
    pub async fn failure(&self, error: &ServiceError) -> Outcome {
        let gone = matches!(
            error,
            ServiceError::TransportClosed | ServiceError::TransportSend(_)
        );
        Outcome::error(if gone {
            let output = self.tail.last_output().await;
            format!("Error: the server has ended{output}")
        } else {
            format!("Error: {error}")
        })
    }

    /// Ends the process.
    pub async fn close(mut self) {
        // What is still there is killed when `self` is dropped.
        let _ = self.client.close_with_timeout(END_TIMEOUT).await;
    }
}

/// A running call.
pub struct Call(RequestHandle<RoleClient>);

impl Call {
    /// Waits for the result.
    pub async fn result(&mut self) -> Result<Outcome, ServiceError> {
        let answer = (&mut self.0.rx).await;
        match answer.map_err(|_| ServiceError::TransportClosed)?? {
            ServerResult::CallToolResult(result) => Ok(Outcome::of(&result)),
            _ => Err(ServiceError::UnexpectedResponse),
        }
    }

    /// Tells the server to end the call.
    pub async fn cancel(self, reason: &str) {
        // A server that is gone has ended the call as well.
        let _ = self.0.cancel(Some(reason.to_owned())).await;
    }
}

async fn start(config: &ServerConfig, tail: Tail) -> Result<(Server, Vec<Tool>), String> {
    let mut command = Command::new(&config.command);
    command.args(&config.args.0);
    command.envs(config.env.0.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &config.cwd {
        // The operating system's error would not say which of the two is missing.
        if !cwd.is_dir() {
            return Err(format!("its `cwd` {} is no folder", cwd.display()));
        }
        command.current_dir(cwd);
    }
    // A group of its own: Ctrl-C in the terminal is for hearthctl, and what the server
    // starts ends with it.
    command.process_group(0);
    let (process, stderr) = TokioChildProcess::builder(command)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| cannot_run(config, &e))?;
    let group = Group(process.id());
    if let Some(stderr) = stderr {
        tokio::spawn(tail.clone().follow(stderr));
    }
    let about = Implementation::new("hearthctl", env!("CARGO_PKG_VERSION"));
    let client = ClientConfig::new(ClientCapabilities::default(), about)
        .serve(process)
        .await
        .map_err(|e| match e {
            ClientInitializeError::ConnectionClosed(_)
            | ClientInitializeError::TransportError { .. } => {
                "it ended before it answered".to_owned()
            }
            e => e.to_string(),
        })?;
    let has_tools = client
        .peer_info()
        .is_none_or(|info| info.capabilities.tools.is_some());
    let tools = if has_tools {
        let listed = client.list_all_tools().await;
        listed.map_err(|e| format!("its tools cannot be listed: {e}"))?
    } else {
        Vec::new()
    };
    let server = Server {
        name: config.name.clone(),
        client,
        tail,
        _group: group,
    };
    Ok((server, tools))
}

fn cannot_run(config: &ServerConfig, error: &io::Error) -> String {
    let command = &config.command;
    if error.kind() == io::ErrorKind::NotFound {
        format!("there is no program {command:?}; install it, or give its full path in `command`")
    } else {
        format!("cannot run {command:?}: {error}")
    }
}

/// The process group of a server, which is killed at the end: a server such as `npx`
/// starts others.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // There is no such group if all have ended.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// The end of what a server writes to standard error.
#[derive(Clone)]
struct Tail {
    text: Arc<Mutex<String>>,
    is_complete: Arc<Notify>,
    /// Values of the environment and of arguments, which are not printed.
    hidden: Arc<[String]>,
}

impl Tail {
    fn new(config: &ServerConfig) -> Self {
        let values = config.env.0.iter().map(|(_, value)| value.as_str());
        // `--key=value` and `value`.
        let args = config.args.0.iter().flat_map(|arg| {
            let value = arg.split_once('=').map(|(_, value)| value);
            Some(arg.as_str()).into_iter().chain(value)
        });
        // Shorter ones are no passwords, and replacing them would garble the text.
        let hidden = values.chain(args).filter(|value| value.len() >= 6);
        let mut hidden: Vec<String> = hidden.map(str::to_owned).collect();
        // One may be the beginning of another.
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self {
            text: Arc::default(),
            is_complete: Arc::default(),
            hidden: hidden.into(),
        }
    }

    async fn follow(self, mut stderr: ChildStderr) {
        let mut bytes = [0; 1024];
        while let Ok(n @ 1..) = stderr.read(&mut bytes).await {
            self.add(&String::from_utf8_lossy(&bytes[..n]));
        }
        self.is_complete.notify_one();
    }

    /// Keeps more than is shown, so that a value at the cut is still recognized.
    fn add(&self, new: &str) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(new);
        let excess = text.len().saturating_sub(8 * TAIL);
        let cut = text.ceil_char_boundary(excess);
        text.drain(..cut);
    }

    /// What a server that has ended wrote last.
    async fn last_output(&self) -> String {
        // Processes that it started may have kept the pipe open.
        let _ = tokio::time::timeout(TAIL_TIMEOUT, self.is_complete.notified()).await;
        self.read()
    }

    /// `; its last output: ...`, or nothing.
    fn read(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = text.clone();
        for value in self.hidden.iter() {
            text = text.replace(value.as_str(), "(hidden)");
        }
        let text = text.trim();
        let from = text.len().saturating_sub(TAIL);
        let from = text.ceil_char_boundary(from);
        if text.is_empty() {
            String::new()
        } else {
            format!("; its last output:\n{}", &text[from..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::config::Hidden;

    fn config(script: &str) -> ServerConfig {
        ServerConfig {
            name: "one".into(),
            command: "sh".into(),
            args: Hidden(vec!["-c".into(), script.into()]),
            env: Hidden(vec![("TOKEN".into(), "SECRET-VALUE".into())]),
            cwd: None,
            always_allow: Vec::new(),
        }
    }

    async fn refused(config: &ServerConfig) -> String {
        let limit = Duration::from_secs(2);
        match Server::start(config, limit).await {
            Ok(_) => panic!("it started"),
            Err(e) => e.to_string(),
        }
    }

    #[tokio::test]
    async fn a_server_that_fails_is_named_with_its_last_output() {
        let error = refused(&config("echo \"no such key: $TOKEN\" >&2; exit 1")).await;
        assert!(error.contains("the MCP server \"one\" failed"), "{error}");
        assert!(
            error.ends_with("it ended before it answered; its last output:\nno such key: (hidden)"),
            "{error}"
        );
        let error = refused(&config("echo hello; exec sleep 60")).await;
        assert!(error.contains("within 2 s"), "{error}");
        let mut missing = config("");
        missing.command = "/nonexistent/server".into();
        let error = refused(&missing).await;
        assert!(
            error.contains("no program \"/nonexistent/server\""),
            "{error}"
        );
        let mut nowhere = config("");
        nowhere.cwd = Some("/nonexistent/folder".into());
        assert!(refused(&nowhere).await.contains("`cwd`"));
    }

    #[tokio::test]
    async fn a_server_that_hangs_leaves_no_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        // The second process ignores the end of its input and SIGTERM.
        let script = format!(
            "(trap '' TERM; echo $$ >{}; sleep 60) & wait",
            file.display()
        );
        refused(&config(&script)).await;
        let group: i32 = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // Killed processes that nobody has waited for remain as zombies of the group.
        for _ in 0..200 {
            if alive(group) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} processes are left", alive(group));
    }

    /// The processes of a group that are no zombies.
    fn alive(group: i32) -> usize {
        let fields = |path: std::path::PathBuf| {
            let stat = std::fs::read_to_string(path.join("stat")).ok()?;
            let rest = stat.rsplit_once(')')?.1.to_owned();
            let fields: Vec<_> = rest.split_whitespace().map(str::to_owned).collect();
            (fields[2] == group.to_string() && fields[0] != "Z").then_some(())
        };
        let processes = std::fs::read_dir("/proc").unwrap();
        let processes = processes.filter_map(|entry| fields(entry.ok()?.path()));
        processes.count()
    }

    #[test]
    fn the_end_of_a_long_output_is_kept() {
        let tail = Tail::new(&config(""));
        assert_eq!(tail.read(), "");
        for n in 0..5000 {
            tail.add(&format!("é {n}\n"));
        }
        let text = tail.read();
        assert!(text.ends_with("é 4999") && text.len() < 2 * TAIL, "{text}");
    }
}
