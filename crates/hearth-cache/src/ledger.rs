//! Bytes written today, since SD cards wear out.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The ledger's file in the cache folder.
const FILE: &str = "written-today.json";

/// Bytes written on one day, preserved across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Day {
    /// Days since 1970-01-01.
    day: u64,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    day: Day,
}

impl Ledger {
    /// Reads the ledger; one that is damaged counts as empty.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let day = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                log::warn!("{} is damaged ({error}) and starts at 0", path.display());
                Day::default()
            }),
            Err(_) => Day::default(),
        };
        Self { path, day }
    }

    /// Bytes written today so far.
    pub(super) fn written(&self, today: u64) -> u64 {
        // A clock that was set back must not stop the cache for years.
        if self.day.day == today {
            self.day.bytes
        } else {
            0
        }
    }

    /// Adds to today's bytes. A failed write is harmless: the bytes are only not counted
    /// after a restart.
    pub(super) fn add(&mut self, today: u64, bytes: u64) {
        self.day = Day {
            day: today,
            bytes: self.written(today).saturating_add(bytes),
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
            serde_json::to_writer(&mut file, &self.day)?;
            file.flush()?;
            file.persist(&self.path).map_err(|e| e.error)
        });
        if let Err(error) = written {
            log::debug!("cannot write {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daily_budget_is_stored_and_resets_each_day() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path());
        ledger.add(10, 100);
        ledger.add(10, 50);
        assert_eq!(ledger.written(10), 150);
        let ledger = Ledger::open(dir.path());
        assert_eq!((ledger.written(10), ledger.written(11)), (150, 0));
        for damaged in ["", "{", "{\"day\":10}", "{\"day\":10,\"bytes\":-1}"] {
            fs::write(dir.path().join(FILE), damaged).unwrap();
            assert_eq!(Ledger::open(dir.path()).written(10), 0);
        }
    }
}
