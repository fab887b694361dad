//! The configuration, `/etc/hearthd/hearthd.toml` and its drop-ins.
//!
//! The doc comments of these structs are the documentation: `config/hearthd.toml`
//! is rendered from them (`hearthd --print-config`) and a test compares the two.

mod check;
mod handle;
mod load;
mod render;
mod sampling;
mod token;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use handle::{ConfigReader, ConfigWriter};
pub use load::{ConfigError, Layer, parse_layers};
pub use render::render_default;
pub use sampling::SamplingConfig;
pub use token::Token;

use hearth_proto::{KvType, paths};

/// Hearthd's configuration. Values shown are the defaults; what is commented out
/// does not need to be set. Files in `hearthd.toml.d/*.toml` are read after this
/// one, in the order of their names, and override it key by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which model is loaded, and how.
    pub model: ModelConfig,
    /// How tokens are chosen where neither the request nor the model file says.
    pub sampling: SamplingConfig,
    /// The queue in front of the engine.
    pub queue: QueueConfig,
    /// What one user may have. 0: as much as there is.
    pub limits: LimitsConfig,
    /// The engine process.
    pub engine: EngineConfig,
    /// How the board is kept from overheating.
    pub governor: GovernorConfig,
    /// Prompts that are kept, so that the next one with the same beginning need not be
    /// read from its start.
    pub cache: CacheConfig,
    /// The D-Bus transport.
    pub dbus: DbusConfig,
    /// HTTP on the Unix socket, and on TCP where its socket is enabled.
    pub http: HttpConfig,
    /// Folders.
    pub paths: PathsConfig,
    /// A prompt that is computed each time its model has been loaded, so that the first
    /// conversation that begins with it starts at once; shared by all users. As many of
    /// these tables as you like; those of all files count.
    pub prewarm: Vec<PrewarmConfig>,
}

/// Which model is loaded, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The model used where a request names none: a name as `hearthctl models`
    /// shows it. Empty: the only model installed, else the packaged demo model.
    pub default: String,
    /// Load the default model when the service starts, not at the first request.
    pub preload: bool,
    /// Context in tokens. 0: what the model was trained for, at most `context_max`.
    /// Where the memory is short it is made smaller, down to 2048.
    pub context: u32,
    /// Upper bound for `context = 0`; the cache for keys and values takes memory
    /// in proportion.
    pub context_max: u32,
    /// Type of the key cache: "f16" or "`q8_0`" (about half the memory).
    pub kv_type: KvType,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            default: String::new(),
            preload: false,
            context: 0,
            context_max: 4096,
            kv_type: KvType::F16,
        }
    }
}

/// The queue in front of the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// How many requests may wait; one more is refused with `QueueFull` (HTTP 429).
    pub length_max: u32,
    /// The longest prompt taken, in bytes of text. Tokenizing megabytes keeps a
    /// small board busy for minutes.
    pub prompt_max_bytes: u32,
    /// How long the result of a finished job is kept for its owner, in seconds.
    pub job_keep_s: u32,
    /// How long running answers may go on after the service was told to stop, in
    /// seconds.
    pub drain_s: u32,
    /// A client that takes nothing of its answer for this long is cut off and its request
    /// cancelled, in seconds. A slow one that goes on reading is not.
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

/// What one user may have. 0: as much as there is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests at once, waiting ones and those worked on; one more is refused with
    /// `QuotaExceeded` (HTTP 429).
    pub jobs_max: u32,
    /// Tokens within an hour, of prompts and answers; what the prompt cache has of a
    /// prompt does not count. Whoever has had so many is refused until the hour is over;
    /// answers that have begun are finished.
    pub tokens_per_hour: u32,
    /// Users that these limits are not for, by number. Root is none of them unless 0
    /// stands here. Requests over TCP, of which no user is known, are those of 4294967295.
    pub exempt_uids: Vec<u32>,
}

/// The engine process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Compute threads. 0: as many as there are big cores that may be used.
    pub threads: u32,
    /// Kill and restart an engine that has work but makes no progress for this
    /// long, in seconds.
    pub hang_timeout_s: u32,
    /// How long loading a model may take, in seconds.
    pub load_timeout_s: u32,
    /// Give the model's memory back when nobody has used it for this long, in seconds;
    /// the next request loads it again. 0: never. `KeepLoaded` on the bus holds it, and so
    /// does `keep_alive` in Ollama's API.
    pub idle_unload_s: u32,
    /// Requests worked on at once, 1 to 16. They share the memory for keys and values,
    /// so each may use the whole context as long as the others leave room.
    pub slots: u32,
    /// Tokens guessed at most from what stands in the prompt already, 0 to 8, and checked
    /// in one batch while a request runs alone. Answers that repeat much of the prompt
    /// come faster, others a little slower; the text is the same. 0: none.
    pub lookup_tokens: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            hang_timeout_s: 60,
            load_timeout_s: 600,
            idle_unload_s: 900,
            slots: 2,
            lookup_tokens: 0,
        }
    }
}

/// How the board is kept from overheating.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GovernorConfig {
    /// "balanced": hold the board just below the temperature where it slows itself.
    /// "throughput": leave that to the firmware and step in only above; most tokens an
    /// hour on many boards, at the highest temperature. "quiet": as balanced, and never
    /// more than `power_percent`, for less heat and fan.
    pub policy: PolicyName,
    /// Share of the computing power that "quiet" allows, 5 to 100.
    pub power_percent: u8,
    /// Stay below this temperature, in degrees Celsius, 40 to 110; it only lowers what
    /// the board itself names as its limit. 0: that limit.
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

/// What matters more when the board gets hot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// Tokens.
    Throughput,
    /// The board.
    #[default]
    Balanced,
    /// Little heat and noise.
    Quiet,
}

/// Prompts that are kept, so that the next one with the same beginning need not be
/// read from its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Memory for finished prompts, in MiB. It is taken besides the context when a
    /// model is loaded.
    pub memory_mib: u32,
    /// Space on disk for beginnings that recur (system prompts, tools), in MiB. They
    /// outlive unloads, restarts and reboots. 0: none are kept.
    pub disk_mib: u32,
    /// The most that is written in a day, in MiB: memory cards wear.
    pub written_per_day_mib: u32,
    /// Beginnings shorter than this are computed again, in tokens.
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
    /// Whether to take the name `org.hearthd.Inference1` on the system bus.
    pub enabled: bool,
    /// Who may import and remove models where there is no polkit: "root" or "group" (all
    /// members of `hearth`). Where there is one, its rules decide.
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
    /// Only root (and the daemon's own user).
    #[default]
    Root,
    /// Everyone who may use the service.
    Group,
}

/// HTTP on the Unix socket, and on TCP where its socket is enabled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where to listen when systemd hands over no socket. Empty: nowhere.
    pub socket: PathBuf,
    /// Permissions of that socket, as an octal number in quotes.
    pub socket_mode: String,
    /// The largest request body, in MiB; a larger one is answered with 413.
    pub body_max_mib: u32,
    /// A file with the token that requests over TCP have to show, as `Authorization:
    /// Bearer …`; on the Unix socket the user counts, not a token. Not to be readable by
    /// everyone. A name alone is one of systemd's credentials, in
    /// `$CREDENTIALS_DIRECTORY`: with `LoadCredential=http-token:/etc/hearthd/http-token`
    /// (`%d/http-token` in the unit) write "http-token". Empty: no token is asked for.
    pub token_file: PathBuf,
    /// What was read from `token_file`.
    #[serde(skip)]
    pub token: Option<Token>,
    /// How long a request's body may take to arrive, in seconds; then it is answered
    /// with 408.
    pub body_s: u32,
    /// Connections at once, over all sockets; fewer where the limit of open files leaves
    /// no room for them. One user, and all of TCP together, may have half of them. One
    /// more is answered with 503 and closed.
    pub connections_max: u32,
    /// A connection without a request for this long is closed, in seconds; also one whose
    /// next request's header is not complete by then.
    pub idle_s: u32,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            socket: paths::SOCKET.into(),
            socket_mode: "0660".into(),
            body_max_mib: 8,
            token_file: PathBuf::new(),
            token: None,
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

/// A prompt that is computed each time its model has been loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(example = PrewarmConfig::example())]
pub struct PrewarmConfig {
    /// The system prompt, exactly as the conversations send it.
    pub system: String,
    /// A file that it is read from instead, when the service starts; the line break at
    /// the file's end is not part of it.
    pub system_file: PathBuf,
    /// A file with the tools that the conversations offer: a JSON list, in OpenAI's form.
    pub tools_file: PathBuf,
    /// The model; empty: the default one.
    pub model: String,
    /// What was read from `tools_file`.
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
    /// Where imported models are kept.
    pub models: PathBuf,
    /// Where packaged models lie, read-only.
    pub models_packaged: PathBuf,
    /// Where prompts are kept.
    pub prompts: PathBuf,
    /// What `hearthctl tune` measured.
    pub tuning: PathBuf,
    /// The engine's executable. Empty: `hearth-engine` beside `hearthd`.
    pub engine: PathBuf,
    /// The root under which `/sys` and `/proc` are read.
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
