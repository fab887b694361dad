//! Where the engine's executable is.

use std::path::PathBuf;

use super::PathsConfig;

impl PathsConfig {
    /// The engine's executable: as configured, or next to the daemon's.
    pub fn engine_executable(&self) -> PathBuf {
        if !self.engine.as_os_str().is_empty() {
            return self.engine.clone();
        }
        let exe = std::env::current_exe().unwrap_or_default();
        exe.with_file_name("hearth-engine")
    }
}
