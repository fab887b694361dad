//! A plain logger on standard error, until the package's shared one takes over.

use std::io::Write as _;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

/// Writes records to standard error. `HEARTH_LOG` chooses the level (`error`, `warn`,
/// `info`, `debug`); the default is `info`.
pub fn init_log() {
    let wanted = std::env::var("HEARTH_LOG").ok();
    let level = wanted
        .and_then(|text| text.parse().ok())
        .unwrap_or(LevelFilter::Info);
    // A logger that is set already stays: several parts in one process.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{:<5} {}\n", record.level(), record.args());
        // One write, so that lines of two processes do not mix; a failure to log has
        // nowhere to go.
        _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
