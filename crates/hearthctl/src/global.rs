//! Options that every command accepts.

use clap::Args;

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Print JSON: one document, or one object per line for streamed output.
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,
    /// Bus to use instead of the system bus, e.g. `unix:path=/tmp/bus`.
    #[arg(long, global = true, display_order = 901)]
    #[arg(value_name = "ADDRESS", value_parser = bus_address)]
    pub bus_address: Option<String>,
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
