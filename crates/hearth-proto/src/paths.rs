//! Default paths of the package's files.

/// Models that were imported or downloaded.
pub const MODELS: &str = "/var/lib/hearthd/models";
/// Models from packages.
pub const MODELS_PACKAGED: &str = "/usr/share/hearthd/models";
/// The Unix socket for HTTP.
pub const SOCKET: &str = "/run/hearthd/hearthd.sock";
