//! Models that are others with settings of their own: a small file beside the models names the
//! base and what applies where a request sets nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hearth_proto::{Failure, FailureKind, GenerateRequest, Lora, Message, Prompt, Sampling};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::digests::hexadecimal;
use super::files::temporary;
use crate::state_file;

/// What follows the model's name in that of the file.
pub(super) const SUFFIX: &str = ".derived.json";
/// Format of the file.
const VERSION: u32 = 1;
/// A larger file was not written by the daemon.
const BYTES_MAX: u64 = 4 << 20;

/// What applies to requests that set nothing else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// The system prompt; empty: none.
    pub system: String,
    /// Messages before those of a conversation.
    pub messages: Vec<Message>,
    /// Sampling.
    pub sampling: Sampling,
    /// The most tokens of an answer.
    pub max_tokens: Option<u32>,
    /// The most tokens of prompt and answer together.
    pub context_max: Option<u32>,
    /// Stop strings.
    pub stop: Vec<String>,
    /// Adapters.
    pub lora: Vec<Lora>,
    /// Sampling, lengths and stop strings, as they are shown.
    pub parameters: Map<String, Value>,
    /// The licence; empty: as the base.
    pub license: String,
}

/// A model that has no weights of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct DerivedModel {
    /// Its name.
    pub name: String,
    /// The model whose file it uses. It may have the same name: then these are its settings.
    pub base: String,
    /// What applies to requests.
    pub defaults: Arc<Defaults>,
    /// Seconds since 1970 of its last change.
    pub modified_s: u64,
    /// The SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    pub(super) path: PathBuf,
    pub(super) size_bytes: u64,
    /// Which file it was: each write makes a new one, also within one tick of the file
    /// system's clock.
    inode: u64,
    modified: SystemTime,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    base: String,
    defaults: Defaults,
}

impl Defaults {
    /// Applies to a request what it does not set itself.
    pub(crate) fn apply(&self, request: &mut GenerateRequest) {
        request.sampling = request.sampling.or(&self.sampling);
        request.max_tokens = request.max_tokens.or(self.max_tokens);
        request.context_max = request.context_max.or(self.context_max);
        if request.stop.is_empty() {
            request.stop.clone_from(&self.stop);
        }
        if request.lora.is_empty() {
            request.lora.clone_from(&self.lora);
        }
        if let Prompt::Chat { messages, .. } = &mut request.prompt {
            self.begin(messages);
        }
    }

    /// Puts the system prompt, unless there is one, and the messages before a conversation.
    fn begin(&self, messages: &mut Vec<Message>) {
        let is_system = |message: &Message| message.role == "system";
        if !self.system.is_empty() && !messages.first().is_some_and(is_system) {
            let system = Message {
                role: "system".into(),
                content: self.system.clone(),
                ..Message::default()
            };
            messages.insert(0, system);
        }
        let at = usize::from(messages.first().is_some_and(is_system));
        messages.splice(at..at, self.messages.iter().cloned());
    }

    /// Takes from those of the base what is not set here.
    pub(super) fn or(mut self, base: &Self) -> Self {
        self.sampling = self.sampling.or(&base.sampling);
        self.max_tokens = self.max_tokens.or(base.max_tokens);
        self.context_max = self.context_max.or(base.context_max);
        for (name, value) in &base.parameters {
            let entry = self.parameters.entry(name.clone());
            entry.or_insert_with(|| value.clone());
        }
        if self.stop.is_empty() {
            self.stop.clone_from(&base.stop);
        }
        if self.lora.is_empty() {
            self.lora.clone_from(&base.lora);
        }
        if self.messages.is_empty() {
            self.messages.clone_from(&base.messages);
        }
        for (own, other) in [
            (&mut self.system, &base.system),
            (&mut self.license, &base.license),
        ] {
            if own.is_empty() {
                own.clone_from(other);
            }
        }
        self
    }
}

/// The file of a derived model of this name.
pub(super) fn path_of(imported: &Path, name: &str) -> PathBuf {
    imported.join(format!("{name}{SUFFIX}"))
}

/// Lists the derived models. Files that are in `before` and did not change are taken from
/// there.
pub(super) fn scan(imported: &Path, before: &[DerivedModel]) -> Vec<DerivedModel> {
    let entries = fs::read_dir(imported).into_iter().flatten().flatten();
    let mut all: Vec<DerivedModel> = entries
        .filter_map(|entry| describe(&entry.path(), before))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn describe(path: &Path, before: &[DerivedModel]) -> Option<DerivedModel> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    if name.starts_with('.') {
        return None;
    }
    let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let modified = meta.modified().unwrap_or(UNIX_EPOCH);
    let modified_s = modified.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let (size_bytes, inode) = (meta.len(), meta.ino());
    let known = before.iter().find(|d| {
        d.path == path && (d.inode, d.size_bytes, d.modified) == (inode, size_bytes, modified)
    });
    if let Some(known) = known {
        return Some(known.clone());
    }
    let read = read(path);
    let (content, sha256) = read
        .map_err(|error| log::warn!("ignoring {}: {error}", path.display()))
        .ok()?;
    Some(DerivedModel {
        name: name.to_owned(),
        base: content.base,
        defaults: Arc::new(content.defaults),
        modified_s,
        sha256,
        path: path.to_owned(),
        size_bytes,
        inode,
        modified,
    })
}

fn read(path: &Path) -> io::Result<(Content, String)> {
    let bytes = state_file::read(path, BYTES_MAX)?;
    let content: Content = serde_json::from_slice(&bytes)?;
    if content.version != VERSION {
        return Err(io::Error::other("the file has an unknown version"));
    }
    Ok((content, hexadecimal(&Sha256::digest(&bytes))))
}

/// Writes the file of a derived model atomically; one of that name is replaced.
pub(super) fn write(
    imported: &Path,
    name: &str,
    base: &str,
    defaults: Defaults,
) -> Result<(), Failure> {
    let content = Content {
        version: VERSION,
        base: base.to_owned(),
        defaults,
    };
    let written = || {
        fs::create_dir_all(imported)?;
        let text = serde_json::to_vec_pretty(&content)?;
        // The end of its line counts.
        if text.len() as u64 >= BYTES_MAX {
            return Err(io::Error::other("its settings are too large"));
        }
        state_file::write(temporary(imported)?, &path_of(imported, name), &text)
    };
    written().map_err(|error| io_failure("write", name, &error))
}

/// Deletes a derived model.
pub(super) fn remove(model: &DerivedModel) -> Result<(), Failure> {
    fs::remove_file(&model.path).map_err(|error| io_failure("remove", &model.name, &error))
}

fn io_failure(what: &str, name: &str, error: &io::Error) -> Failure {
    Failure::new(FailureKind::Io, format!("cannot {what} {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            system: "Be brief.".into(),
            messages: vec![Message::user("Hi")],
            sampling: Sampling {
                temperature: Some(0.5),
                seed: Some(7),
                ..Sampling::default()
            },
            max_tokens: Some(9),
            stop: vec!["\n".into()],
            ..Defaults::default()
        }
    }

    fn asked(messages: Vec<Message>) -> GenerateRequest {
        GenerateRequest {
            prompt: Prompt::Chat {
                messages,
                tools: Vec::new(),
            },
            ..GenerateRequest::default()
        }
    }

    fn roles(request: &GenerateRequest) -> Vec<(&str, &str)> {
        let Prompt::Chat { messages, .. } = &request.prompt else {
            panic!("{request:?}");
        };
        messages
            .iter()
            .map(|m| (m.role.as_str(), m.content.as_str()))
            .collect()
    }

    #[test]
    fn settings_of_the_same_size_and_time_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_of(folder.path(), "new");
        let mut before = Vec::new();
        for system in ["one", "two", "six"] {
            let defaults = Defaults {
                system: system.into(),
                ..Defaults::default()
            };
            write(folder.path(), "new", "base", defaults).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(UNIX_EPOCH).unwrap();
            before = scan(folder.path(), &before);
            assert_eq!(before[0].defaults.system, system);
        }
    }

    #[test]
    fn defaults_apply_where_a_request_sets_nothing() {
        let mut request = asked(vec![Message::user("x")]);
        request.sampling.temperature = Some(0.0);
        defaults().apply(&mut request);
        let expected = [("system", "Be brief."), ("user", "Hi"), ("user", "x")];
        assert_eq!(roles(&request), expected);
        assert_eq!(request.sampling.temperature, Some(0.0));
        assert_eq!(request.sampling.seed, Some(7));
        assert_eq!((request.max_tokens, request.stop.len()), (Some(9), 1));

        let own = Message {
            role: "system".into(),
            content: "Rhyme.".into(),
            ..Message::default()
        };
        let mut request = asked(vec![own, Message::user("x")]);
        request.max_tokens = Some(3);
        request.stop = vec!["a".into(), "b".into()];
        defaults().apply(&mut request);
        let expected = [("system", "Rhyme."), ("user", "Hi"), ("user", "x")];
        assert_eq!(roles(&request), expected);
        assert_eq!((request.max_tokens, request.stop.len()), (Some(3), 2));
    }

    #[test]
    fn a_derived_model_inherits_from_a_derived_base() {
        let own = Defaults {
            system: "Rhyme.".into(),
            max_tokens: Some(1),
            ..Defaults::default()
        };
        let merged = own.or(&defaults());
        assert_eq!(
            (merged.system.as_str(), merged.max_tokens),
            ("Rhyme.", Some(1))
        );
        assert_eq!(merged.sampling, defaults().sampling);
        assert_eq!((merged.messages.len(), merged.stop.len()), (1, 1));
    }

    #[test]
    fn what_is_written_is_listed_and_damaged_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "brief", "base", defaults()).unwrap();
        let listed = scan(folder.path(), &[]);
        assert_eq!(
            (listed[0].name.as_str(), listed[0].base.as_str()),
            ("brief", "base")
        );
        assert_eq!(*listed[0].defaults, defaults());
        assert_eq!(listed[0].sha256.len(), 64);
        assert!(Arc::ptr_eq(
            &scan(folder.path(), &listed)[0].defaults,
            &listed[0].defaults
        ));
        let path = path_of(folder.path(), "brief");
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            &good[..good.len() / 2],
            &good.replace("\"version\": 1", "\"version\": 2"),
            &good.replace("\"system\"", "\"sistem\""),
            &"x".repeat(5 << 20),
        ] {
            fs::write(&path, bad).unwrap();
            assert!(scan(folder.path(), &[]).is_empty(), "{bad:.90}");
        }
        fs::write(&path, good).unwrap();
        remove(&scan(folder.path(), &[])[0]).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
