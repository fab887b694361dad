//! Options that every command accepts.

use clap::{Args, ValueEnum};

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Print JSON: one document, or one object per line for streamed output. See
    /// hearthctl-json(5).
    #[arg(long, global = true, display_order = 900, value_name = "VERSION")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub json: Option<JsonVersion>,
    /// Bus to use instead of the system bus, e.g. `unix:path=/tmp/bus`.
    #[arg(long, global = true, display_order = 901)]
    #[arg(value_name = "ADDRESS", value_parser = bus_address)]
    pub bus_address: Option<String>,
}

/// The version of the documents that `--json` prints. Within a version fields are only
/// added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JsonVersion {
    /// What `docs/json/` describes.
    #[value(name = "1")]
    V1,
}

impl Global {
    /// Whether JSON is printed. There is one version yet.
    pub fn is_json(&self) -> bool {
        self.json == Some(JsonVersion::V1)
    }
}

/// Rejects a malformed address as a usage error, before connecting.
fn bus_address(text: &str) -> Result<String, String> {
    match text.parse::<zbus::Address>() {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => Err(format!(
            "{e}; an address looks like unix:path=/run/dbus/system_bus_socket"
        )),
    }
}
