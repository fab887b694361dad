//! The file in which measurements are stored.

use std::fs;
use std::io;
use std::path::Path;

use hearth_policy::tuning::Tuning;
use serde::{Deserialize, Serialize};

use crate::state_file;

/// Format of the file.
const VERSION: u32 = 1;
/// The maximum number of models; the oldest are dropped.
const MODELS_MAX: usize = 32;
/// A larger file was not written by the daemon.
const BYTES_MAX: u64 = 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    tunings: Vec<Tuning>,
}

/// Reads the measurements. A damaged file is ignored.
pub(super) fn read(path: &Path) -> Vec<Tuning> {
    match try_read(path) {
        Ok(tunings) => tunings,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let path = path.display();
            log::warn!("ignoring {path}: {error}; run `hearthctl tune` to measure again");
            Vec::new()
        }
    }
}

fn try_read(path: &Path) -> io::Result<Vec<Tuning>> {
    let content: Content = serde_json::from_slice(&state_file::read(path, BYTES_MAX)?)?;
    if content.version != VERSION {
        return Err(io::Error::other("the file has an unknown version"));
    }
    if !content.tunings.iter().all(Tuning::is_sound) {
        return Err(io::Error::other("the file contains impossible values"));
    }
    Ok(content.tunings)
}

/// Writes them atomically.
pub(super) fn write(path: &Path, tunings: &[Tuning]) -> io::Result<()> {
    let from = tunings.len().saturating_sub(MODELS_MAX);
    let content = Content {
        version: VERSION,
        tunings: tunings.get(from..).unwrap_or_default().to_vec(),
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    state_file::write(file, path, &serde_json::to_vec_pretty(&content)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_policy::tuning::Speed;

    fn tuning(model: &str) -> Tuning {
        Tuning {
            model: model.to_owned(),
            quantization: "Q4_0".to_owned(),
            parameters: 7,
            cores: "0-3".to_owned(),
            runs: 3,
            measured_s: 9,
            spread: 0.0,
            speeds: vec![Speed {
                decode: 1.5,
                prefill: 3.25,
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/tuning.json");
        assert!(read(&path).is_empty());
        let all: Vec<Tuning> = (0..40).map(|n| tuning(&n.to_string())).collect();
        write(&path, &all).unwrap();
        assert_eq!(read(&path), all[8..]);
        let files = fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn damaged_files_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        write(&path, &[tuning("m")]).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            &good[..good.len() / 2],
            "",
            "[]",
            &good.replace("\"version\": 1", "\"version\": 2"),
            &good.replace("1.5", "-1.5"),
            &good.replace("1.5", "0"),
            &good.replace("\"runs\"", "\"walks\""),
            &"x".repeat(2 << 20),
        ] {
            fs::write(&path, bad).unwrap();
            assert!(read(&path).is_empty(), "{bad:.80}");
        }
    }
}
