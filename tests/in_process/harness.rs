//! A daemon inside the test.

use std::future::Future;
use std::time::Duration;

use hearth_proto::{Command, Failure, GenerateRequest, Message, Prompt, Submission};
use hearth_testing::{FakeEngine, Folder, Script};
use hearthd::caller::{Caller, Origin, Principal};
use hearthd::config::{Config, Layer, parse_layers};
use hearthd::daemon::{Daemon, State};
use hearthd::dispatch::Stream;
use hearthd::engines::Launcher;
use hearthd::http::Connections;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

/// The longest a test waits, by the clock of the runtime.
pub const PATIENCE: Duration = Duration::from_hours(1);
/// The name of the model that is always installed.
pub const MODEL: &str = "fake";

/// A daemon, its engines and its folders.
pub struct World {
    pub daemon: Daemon,
    pub engine: FakeEngine,
    pub folder: Folder,
    /// Its tasks; they end with the test.
    tasks: JoinSet<()>,
}

impl World {
    /// A daemon with the default configuration.
    pub async fn new(script: Script) -> Self {
        Self::with("", script).await
    }

    /// A daemon with this configuration, whose paths are set by the harness.
    pub async fn with(config: &str, script: Script) -> Self {
        Self::over(Folder::with_model(MODEL).unwrap(), config, script).await
    }

    /// A daemon on a board of this temperature.
    pub async fn on_board(celsius: i32, config: &str, script: Script) -> Self {
        let folder = Folder::with_model(MODEL).unwrap();
        folder.board().set_celsius(celsius).unwrap();
        Self::over(folder, config, script).await
    }

    /// A daemon over a folder that an earlier one may have used.
    pub async fn over(folder: Folder, config: &str, script: Script) -> Self {
        let engine = FakeEngine::new(script);
        let launcher = Launcher::InProcess(engine.start());
        let daemon = Daemon::open(configuration(&folder, config), launcher).await;
        let mut tasks = JoinSet::new();
        let running = daemon.clone();
        tasks.spawn(async move { running.run().await });
        _ = std::fs::remove_file(folder.socket());
        let listener = UnixListener::bind(folder.socket()).unwrap();
        let connections = Connections::new(daemon.clone());
        tasks.spawn(connections.serve_unix(listener, std::future::pending()));
        Self {
            daemon,
            engine,
            folder,
            tasks,
        }
    }

    /// Puts another configuration in force.
    pub fn configure(&self, config: &str) {
        self.daemon.set_config(configuration(&self.folder, config));
    }

    /// Ends the daemon and returns its folder.
    pub async fn stop(mut self) -> Folder {
        self.daemon.drain().await;
        self.tasks.shutdown().await;
        self.folder
    }

    /// Submits a chat with one message.
    pub async fn submit(&self, content: &str) -> Result<Stream, Failure> {
        let caller = caller();
        self.daemon.dispatcher.submit(&caller, chat(content)).await
    }

    /// The answer to a chat with one message.
    pub async fn say(&self, content: &str) -> Result<String, Failure> {
        Ok(self.submit(content).await?.collect().await?.content)
    }

    /// Waits for a state of the daemon.
    pub async fn until_state(&self, state: State) {
        until(state.as_str(), || self.daemon.status().state == state).await;
    }

    /// Waits until as many requests run.
    pub async fn until_running(&self, count: u32) {
        let what = format!("{count} run");
        until(&what, || self.daemon.status().active_jobs == count).await;
    }

    /// Waits until as many requests wait.
    pub async fn until_queued(&self, count: u32) {
        let what = format!("{count} wait");
        until(&what, || self.daemon.status().queue_length == count).await;
    }

    /// The metrics, as text.
    pub async fn metrics(&self) -> String {
        self.daemon.metrics().await
    }

    /// The value of a metric with these labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics().await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        let value = value.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
        value.trim().parse().unwrap()
    }

    /// The requests that the engines received, in order.
    pub fn requests(&self) -> Vec<GenerateRequest> {
        self.engine.picked(|command| match command {
            Command::Generate(request) => Some(request.clone()),
            _ => None,
        })
    }

    /// The names of the models that engines were told to load.
    pub fn loads(&self) -> Vec<String> {
        self.engine.picked(|command| match command {
            Command::Load(request) => {
                let stem = request.path.file_stem()?.to_string_lossy();
                Some(stem.into_owned())
            }
            _ => None,
        })
    }
}

fn configuration(folder: &Folder, config: &str) -> Config {
    let layer = Layer {
        path: "hearthd.toml".into(),
        text: config.to_owned(),
    };
    let mut config = parse_layers(&[layer]).unwrap();
    config.paths.models = folder.models();
    config.paths.models_packaged = folder.packaged();
    config.paths.prompts = folder.prompts();
    config.paths.tuning = folder.tuning();
    config.paths.sensors_root = folder.board().root();
    config
}

/// A caller over the Unix socket, of the user that runs the tests.
pub fn caller() -> Caller {
    user(nix::unistd::geteuid().as_raw())
}

/// A caller of any user.
pub fn user(uid: u32) -> Caller {
    Caller::new(Principal::Uid(uid), Origin::Unix(None))
}

/// A chat with one message.
pub fn chat(content: &str) -> Submission {
    Submission::new(Prompt::Chat {
        messages: vec![Message::user(content)],
        tools: Vec::new(),
    })
}

/// This many different words, so that missing or repeated ones are noticed.
pub fn counted(words: u32) -> String {
    let words: Vec<String> = (0..words).map(|n| format!("word {n}")).collect();
    words.join(" ")
}

/// Waits for a condition.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patient(what, waited).await;
}

/// Waits for a condition that is asked for asynchronously.
pub async fn until_async<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patient(what, waited).await;
}

/// The output of a future that is to end.
pub async fn patient<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}
