//! Options of `bench study`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hearth_lab::study::{self, Address, Server};
use hearth_proto::paths::SOCKET;

#[derive(Debug, Args)]
pub struct BenchStudyArgs {
    /// Measure this server instead of Hearthd's socket, e.g. `http://localhost:11434`.
    #[arg(long, value_name = "URL", conflicts_with = "unix", value_parser = str::parse::<Address>)]
    pub endpoint: Option<Address>,
    /// Measure the server on this Unix socket.
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,
    /// API of the server.
    #[arg(long, value_enum, default_value = "openai")]
    pub api: ApiName,
    /// Model to request; if omitted, the only one of the server or the one in memory.
    #[arg(long)]
    pub model: Option<String>,
    /// Label of the server in tables and plots.
    #[arg(long, value_name = "LABEL")]
    pub name: Option<String>,
    /// Process ID of the server, if it is not found automatically.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// Another server to measure in turn; may be repeated, e.g.
    /// `ollama=http://localhost:11434,api=ollama,model=llama3.2:1b`. The options are
    /// api=, model= and pid=; a Unix socket is `unix:PATH`.
    #[arg(long, value_name = "LABEL=URL", value_parser = server)]
    pub against: Vec<Server>,
    /// Number of measured runs of each form.
    #[arg(long, value_name = "N", default_value = "10")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Make every answer exactly this many tokens long, so that servers do the same work.
    /// If omitted, the model ends the answer, after 256 tokens at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=65536))]
    pub tokens: Option<u32>,
    /// What to reset before each run.
    #[arg(long, value_enum, default_value = "prompt")]
    pub reset: Reset,
    /// Count an answer as failed after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
    /// Write a plot to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// The API of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ApiName {
    /// `/v1/chat/completions`.
    #[value(name = "openai")]
    OpenAi,
    /// `/api/chat`.
    Ollama,
}

impl From<ApiName> for study::Api {
    fn from(name: ApiName) -> Self {
        match name {
            ApiName::OpenAi => Self::OpenAi,
            ApiName::Ollama => Self::Ollama,
        }
    }
}

/// What is reset between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reset {
    /// Nothing: the same question is repeated, and the server may use its prompt cache.
    None,
    /// The conversation: each one begins with different words, so that no prompt cache
    /// matches. The model stays in memory.
    Prompt,
    /// The conversation and the model: the model is unloaded before each run, and the
    /// loading time is measured. For servers with Ollama's `keep_alive`, such as Hearthd.
    Unload,
}

impl From<Reset> for study::Reset {
    fn from(reset: Reset) -> Self {
        match reset {
            Reset::None => Self::None,
            Reset::Prompt => Self::Prompt,
            Reset::Unload => Self::Unload,
        }
    }
}

impl BenchStudyArgs {
    /// The server of `--endpoint` or `--unix`; Hearthd's socket if neither is given.
    pub fn own_server(&self) -> Server {
        let address = match (&self.endpoint, &self.unix) {
            (Some(address), _) => address.clone(),
            (_, Some(path)) => Address::Unix(path.clone()),
            _ => Address::Unix(SOCKET.into()),
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None if self.endpoint.is_some() => address.to_string(),
            None => "hearthd".to_owned(),
        };
        Server {
            model: self.model.clone(),
            pid: self.pid,
            ..Server::new(name, address, self.api.into())
        }
    }
}

/// `LABEL=URL[,api=ollama][,model=NAME][,pid=N]`.
fn server(text: &str) -> Result<Server, String> {
    let wanted = "a server looks like ollama=http://localhost:11434,api=ollama,model=NAME";
    let (name, rest) = text.split_once('=').ok_or(wanted)?;
    if name.is_empty() {
        return Err(wanted.to_owned());
    }
    let mut parts = rest.split(',');
    let address = parts.next().unwrap_or_default().parse()?;
    let mut server = Server::new(name, address, study::Api::OpenAi);
    for part in parts {
        match part.split_once('=') {
            Some(("api", api)) => {
                let api = ApiName::from_str(api, false)
                    .map_err(|_| format!("no API `{api}`: openai or ollama"))?;
                server.api = api.into();
            }
            Some(("model", model)) if !model.is_empty() => {
                server.model = Some(model.to_owned());
            }
            Some(("pid", pid)) => {
                let pid = pid
                    .parse()
                    .map_err(|_| format!("`{pid}` is not a process ID"))?;
                server.pid = Some(pid);
            }
            _ => return Err(format!("`{part}`: api=, model= or pid=; {wanted}")),
        }
    }
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_the_command_line() {
        let server = server("a=http://localhost:1,api=ollama,model=x:1b,pid=7").unwrap();
        assert_eq!(
            (
                server.name.as_str(),
                server.api,
                server.model.as_deref(),
                server.pid
            ),
            ("a", study::Api::Ollama, Some("x:1b"), Some(7))
        );
        for (text, words) in [
            ("http://localhost:1", "looks like"),
            ("=http://localhost:1", "looks like"),
            ("a=https://x", "plain http"),
            ("a=http://x,api=grpc", "openai or ollama"),
            ("a=http://x,pid=me", "not a process"),
            ("a=http://x,colour=red", "colour=red"),
            ("a=http://x,model=", "model="),
        ] {
            let error = super::server(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
