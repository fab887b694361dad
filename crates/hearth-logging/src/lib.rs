//! One logger for daemon and engine. Under systemd the records go to the
//! journal with their fields, else to standard error.

use std::io::Write as _;

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::JournalLog;

/// Sets the process's logger. `HEARTH_LOG` chooses the level (`error`, `warn`,
/// `info`, `debug`, `trace`); the default is `info`.
pub fn init(identifier: &str) {
    let level = std::env::var("HEARTH_LOG")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(LevelFilter::Info);
    log::set_max_level(level);
    let journal = systemd_journal_logger::connected_to_journal()
        .then(JournalLog::new)
        .and_then(Result::ok);
    let set = match journal {
        Some(journal) => journal
            .with_syslog_identifier(identifier.to_owned())
            .install(),
        None => log::set_boxed_logger(Box::new(Stderr)),
    };
    if set.is_err() {
        // A logger was set before: by tests that run several parts in one process.
        log::debug!("a logger was set already");
    }
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // zbus and its related crates log too much below warning.
        metadata.level() <= log::Level::Warn
            || metadata.target().starts_with("hearth")
            || metadata.target().starts_with("llama")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = format!("{:<5} {}", record.level(), record.args());
        _ = record.key_values().visit(&mut Fields(&mut line));
        line.push('\n');
        // A single write, so that lines of daemon and engine do not mix; an error here
        // cannot be reported.
        _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

struct Fields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        use std::fmt::Write as _;
        _ = write!(self.0, " {key}={value}");
        Ok(())
    }
}
