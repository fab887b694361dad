//! The configuration, `/etc/hearthd/hearthd.toml` and its drop-ins.
//!
//! The doc comments of these structs are the documentation: `config/hearthd.toml`
//! is rendered from them (`hearthd --print-config`) and a test compares the two.

mod check;
mod engine_path;
mod handle;
mod load;
mod model;
mod render;
mod sampling;
mod token;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use handle::{ConfigReader, ConfigWriter};
pub use load::{ConfigError, Layer, parse_layers};
pub use model::ModelConfig;
pub use render::render_default;
pub use sampling::SamplingConfig;
pub use token::Token;

use hearth_proto::paths;

/// Configuration of hearthd. The commented-out values are the defaults. Files in
/// `hearthd.toml.d/*.toml` are read after this one, in the order of their names, and
/// override it key by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which model is loaded, and how.
    pub model: ModelConfig,
    /// Default sampling settings. They apply where neither the request nor the model file
    /// sets a value.
    pub sampling: SamplingConfig,
    /// The request queue.
    pub queue: QueueConfig,
    /// Limits per user. 0 means no limit.
    pub limits: LimitsConfig,
    /// The engine process.
    pub engine: EngineConfig,
    /// Control of temperature and computing power.
    pub governor: GovernorConfig,
    /// The prefix cache: a prompt that begins like an earlier one is computed only from
    /// the point where they differ.
    pub cache: CacheConfig,
    /// The D-Bus transport.
    pub dbus: DbusConfig,
    /// HTTP on the Unix socket, and on TCP if hearthd-tcp.socket is enabled.
    pub http: HttpConfig,
    /// Folders.
    pub paths: PathsConfig,
    /// A system prompt that is computed each time its model has been loaded, so that
    /// conversations with it start without delay. All users share it. The table may be
    /// repeated; the tables of all files apply.
    pub prewarm: Vec<PrewarmConfig>,
}

/// The request queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Maximum number of queued requests. Further ones are refused with `QueueFull` (HTTP
    /// 429).
    pub length_max: u32,
    /// Maximum size of a prompt, in bytes of text. Tokenizing megabytes takes minutes on a
    /// small board.
    pub prompt_max_bytes: u32,
    /// How long the result of a finished job is stored, in seconds.
    pub job_keep_s: u32,
    /// How long running requests may continue after the service was told to stop, in
    /// seconds.
    pub drain_s: u32,
    /// Write timeout in seconds: if a client reads nothing of its answer for this long, the
    /// connection is closed and the request cancelled. Slow reading does not time out.
    pub unread_s: u32,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            length_max: 32,
            prompt_max_bytes: 1024 * 1024,
            job_keep_s: 600,
            drain_s: 20,
            unread_s: 300,
        }
    }
}

/// Limits per user. 0 means no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Maximum number of queued and running requests. Further ones are refused with
    /// `QuotaExceeded` (HTTP 429).
    pub jobs_max: u32,
    /// Tokens per hour, of prompts and answers; prompt tokens from the prefix cache do not
    /// count. Above the limit, new requests are refused until the hour is over; running
    /// ones are finished.
    pub tokens_per_hour: u32,
    /// User ids that are exempt from these limits. Root is not exempt unless 0 is listed.
    /// Requests over TCP have no known user and count as 4294967295.
    pub exempt_uids: Vec<u32>,
}

/// The engine process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Compute threads. 0: the number of usable big cores.
    pub threads: u32,
    /// Kill and restart an engine that has requests but makes no progress for this long, in
    /// seconds.
    pub hang_timeout_s: u32,
    /// Timeout for loading a model, in seconds.
    pub load_timeout_s: u32,
    /// Unload the model if it was not used for this long, in seconds; the next request
    /// loads it again. 0: never. `KeepLoaded` on D-Bus and `keep_alive` in Ollama's API
    /// override this.
    pub idle_unload_s: u32,
    /// Number of models in memory at once. Each has an engine process of its own; all share
    /// the memory of the board. 0: as many as fit.
    pub models_max: u32,
    /// Number of requests that one model processes at once, 1 to 16. They share the KV cache: each may use
    /// the whole context as long as enough of it is free.
    pub slots: u32,
    /// Prompt lookup decoding: maximum number of tokens that are drafted from the prompt and
    /// verified in one batch, 0 to 8; only while a single request runs. Faster for answers
    /// that repeat much of the prompt, slightly slower for others; the text is the same.
    /// 0: off.
    pub lookup_tokens: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            hang_timeout_s: 60,
            load_timeout_s: 600,
            idle_unload_s: 900,
            models_max: 0,
            slots: 2,
            lookup_tokens: 0,
        }
    }
}

/// Control of temperature and computing power.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GovernorConfig {
    /// "balanced": keep the board just below the temperature at which it throttles.
    /// "throughput": leave throttling to the firmware and intervene only above that
    /// temperature; most tokens per hour on many boards, at the highest temperature.
    /// "quiet": as "balanced", and at most `power_percent`, for less heat and fan noise.
    pub policy: PolicyName,
    /// Computing power that "quiet" allows, in percent, 5 to 100.
    pub power_percent: u8,
    /// Temperature limit in degrees Celsius, 40 to 110. It can only lower the limit that the
    /// board reports. 0: the limit of the board.
    pub temperature_limit_celsius: u32,
}

impl Default for GovernorConfig {
    fn default() -> Self {
        Self {
            policy: PolicyName::Balanced,
            power_percent: 60,
            temperature_limit_celsius: 0,
        }
    }
}

/// What to favour when the board gets hot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// Tokens per hour.
    Throughput,
    /// A temperature below that of throttling.
    #[default]
    Balanced,
    /// Little heat and noise.
    Quiet,
}

/// The prefix cache: a prompt that begins like an earlier one is computed only from the
/// point where they differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Memory for the prompts of finished requests, in MiB, in addition to that of the
    /// context. It is allocated when a model is loaded.
    pub memory_mib: u32,
    /// Disk space for recurring prefixes (system prompts, tools), in MiB. They remain after
    /// unloading, restarts and reboots. 0: nothing is written to disk.
    pub disk_mib: u32,
    /// Maximum amount written to disk per day, in MiB, to limit the wear of memory cards.
    pub written_per_day_mib: u32,
    /// Minimum length of a prefix on disk, in tokens.
    pub min_tokens: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            memory_mib: 64,
            disk_mib: 512,
            written_per_day_mib: 1024,
            min_tokens: 64,
        }
    }
}

/// The D-Bus transport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DbusConfig {
    /// Whether to provide `org.hearthd.Inference1` on the system bus.
    pub enabled: bool,
    /// Who may import and remove models: "root" or "group" (all members of `hearth`). With
    /// polkit, requests on D-Bus follow its rules instead.
    pub model_admins: ModelAdmins,
}

impl Default for DbusConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            model_admins: ModelAdmins::Root,
        }
    }
}

/// Who may import and remove models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelAdmins {
    /// Root, and the daemon's own user.
    #[default]
    Root,
    /// All users of the service.
    Group,
}

/// HTTP on the Unix socket, and on TCP if hearthd-tcp.socket is enabled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Path of the Unix socket if systemd passes no socket. Empty: none.
    pub socket: PathBuf,
    /// Permissions of that socket, as an octal number in quotes.
    pub socket_mode: String,
    /// Maximum size of a request body, in MiB; larger ones are refused with status 413.
    pub body_max_mib: u32,
    /// File with the token that requests over TCP must send as `Authorization: Bearer …`.
    /// Requests on the Unix socket need no token. The file must not be readable by all
    /// users. A name without a slash is a systemd credential: for
    /// `LoadCredential=http-token:/etc/hearthd/http-token` in the unit, write "http-token".
    /// Empty: no token is required.
    pub token_file: PathBuf,
    /// The content of `token_file`.
    #[serde(skip)]
    pub token: Option<Token>,
    /// Further names by which requests over TCP may address this service in their `Host`
    /// header, for example behind a proxy. localhost, 127.0.0.1, the machine's name, also
    /// with `.local`, and host.docker.internal are always allowed.
    pub hosts: Vec<String>,
    /// Origins whose scripts may use the service over TCP if they have the token (CORS): a
    /// scheme and a host, or a beginning of them and `*`. Pages of this machine are always
    /// allowed, and without `token_file` only they.
    pub origins: Vec<String>,
    /// Timeout for receiving a request body, in seconds; after it, the request is refused
    /// with status 408.
    pub body_s: u32,
    /// Maximum number of connections over all sockets; fewer if the limit of open files is
    /// too low. One user may have half of them, and so may all clients over TCP together.
    /// Further connections are answered with status 503 and closed.
    pub connections_max: u32,
    /// Idle timeout of connections, in seconds. It also applies to receiving the header of a
    /// request.
    pub idle_s: u32,
}

/// Applications and browser extensions, which have origins of their own; those that Ollama
/// allows by default.
const ORIGINS: [&str; 7] = [
    "app://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
    "chrome-extension://*",
    "moz-extension://*",
    "safari-web-extension://*",
];

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            socket: paths::SOCKET.into(),
            socket_mode: "0660".into(),
            body_max_mib: 8,
            token_file: PathBuf::new(),
            token: None,
            hosts: Vec::new(),
            origins: ORIGINS.map(str::to_owned).to_vec(),
            body_s: 120,
            connections_max: 512,
            idle_s: 60,
        }
    }
}

impl HttpConfig {
    /// `socket_mode` as a number; `None` where it is not octal.
    pub fn socket_mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.socket_mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
    }
}

/// A system prompt that is computed each time its model has been loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(example = PrewarmConfig::example())]
pub struct PrewarmConfig {
    /// The system prompt, exactly as in the conversations.
    pub system: String,
    /// File with the system prompt, instead of `system`. It is read when the service
    /// starts; a line break at its end is removed.
    pub system_file: PathBuf,
    /// File with the tools of the conversations: a JSON list in the format of OpenAI's API.
    pub tools_file: PathBuf,
    /// The model. Empty: the default model.
    pub model: String,
    /// The content of `tools_file`.
    #[serde(skip)]
    pub tools: Vec<serde_json::Value>,
}

impl PrewarmConfig {
    fn example() -> Self {
        Self {
            system: "You are the voice of this house. Answer in one sentence.".into(),
            ..Self::default()
        }
    }
}

/// Folders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PathsConfig {
    /// Imported models.
    pub models: PathBuf,
    /// Models from packages, read-only.
    pub models_packaged: PathBuf,
    /// The prompt cache.
    pub prompts: PathBuf,
    /// Results of `hearthctl tune`.
    pub tuning: PathBuf,
    /// The executable of the engine. Empty: `hearth-engine` in the folder of `hearthd`.
    pub engine: PathBuf,
    /// Root directory for reading `/sys` and `/proc`.
    pub sensors_root: PathBuf,
}

impl Default for PathsConfig {
    fn default() -> Self {
        Self {
            models: paths::MODELS.into(),
            models_packaged: paths::MODELS_PACKAGED.into(),
            prompts: "/var/cache/hearthd/prompts".into(),
            tuning: "/var/lib/hearthd/tuning.json".into(),
            engine: PathBuf::new(),
            sensors_root: "/".into(),
        }
    }
}
