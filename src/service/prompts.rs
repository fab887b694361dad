//! The prompt cache on disk: list, verify and clear it.
//!
//! A caller sees its own entries and shared ones; root and the service's own user see and
//! delete all. The text of prompts is never shown.

use std::collections::HashMap;
use std::time::SystemTime;

use super::types::Caller;
use super::{Service, crashed};
use crate::cache::{self, Listed};
use crate::protocol::{Command, Failure, FailureKind};

/// An entry of the prompt cache on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptEntry {
    /// The installed model that it belongs to; empty if that is no longer installed.
    pub model: String,
    /// Its owner; `None`: shared, or not known.
    pub uid: Option<u32>,
    /// Tokens of the prompt.
    pub tokens: u32,
    /// Bytes on disk.
    pub bytes: u64,
    /// Time of its last use, in seconds since 1970.
    pub used_s: u64,
    /// Why it cannot be used; empty if it can.
    pub problem: String,
}

impl Service {
    /// The entries that this caller may see. With `verify` each file is read completely.
    ///
    /// # Errors
    /// `Internal` while the daemon is stopping.
    pub async fn prompts(
        &self,
        caller: &Caller,
        verify: bool,
    ) -> Result<Vec<PromptEntry>, Failure> {
        let (service, caller) = (self.clone(), caller.clone());
        let read = tokio::task::spawn_blocking(move || service.read_prompts(&caller, verify));
        read.await.map_err(|_| crashed())
    }

    fn read_prompts(&self, caller: &Caller, verify: bool) -> Vec<PromptEntry> {
        let models: HashMap<u128, String> = self
            .shared
            .store
            .list()
            .into_iter()
            .filter_map(|model| Some((cache::fingerprint(&model.path).ok()?, model.name)))
            .collect();
        let listed = cache::list(&self.config().paths.prompts);
        let seen = listed.into_iter().filter(|l| may_see(caller, l));
        seen.map(|listed| {
            let header = match &listed.header {
                Ok(_) if verify => cache::verify(&listed.path).map_err(|e| e.to_string()),
                header => header.clone(),
            };
            let used = listed.used.duration_since(SystemTime::UNIX_EPOCH);
            let (header, problem) = match header {
                Ok(header) => (Some(header), String::new()),
                Err(problem) => (listed.header.ok(), problem),
            };
            let model = header.as_ref().and_then(|h| models.get(&h.fingerprint));
            PromptEntry {
                model: model.cloned().unwrap_or_default(),
                uid: header.as_ref().and_then(|h| h.owner),
                tokens: header.map_or(0, |h| u32::try_from(h.tokens.len()).unwrap_or(u32::MAX)),
                bytes: listed.bytes,
                used_s: used.map_or(0, |used| used.as_secs()),
                problem,
            }
        })
        .collect()
    }

    /// Deletes the caller's entries, in memory and on disk; all of them for root. Returns
    /// the number of deleted files.
    ///
    /// # Errors
    /// `Io` where a file cannot be deleted.
    pub async fn clear_prompts(&self, caller: &Caller) -> Result<u32, Failure> {
        let folder = self.config().paths.prompts.clone();
        let by = caller.clone();
        let cleared = tokio::task::spawn_blocking(move || {
            cache::clear(&folder, |listed| {
                is_admin(&by) || owner(listed) == Some(by.uid)
            })
        });
        let cleared = cleared.await.map_err(|_| crashed())?;
        let uid = (!is_admin(caller)).then_some(caller.uid);
        if let Some(engine) = &self.lock().engine {
            _ = engine.commands.send(Command::ForgetPrompts { uid });
        }
        log::info!(uid = caller.uid; "kept prompts cleared");
        cleared.map_err(|error| {
            Failure::new(
                FailureKind::Io,
                format!("not all kept prompts could be deleted: {error}"),
            )
        })
    }
}

fn is_admin(caller: &Caller) -> bool {
    caller.uid == 0 || caller.uid == nix::unistd::geteuid().as_raw()
}

fn owner(listed: &Listed) -> Option<u32> {
    listed.header.as_ref().ok().and_then(|header| header.owner)
}

fn may_see(caller: &Caller, listed: &Listed) -> bool {
    let is_shared = listed.header.as_ref().is_ok_and(|h| h.owner.is_none());
    is_admin(caller) || is_shared || owner(listed) == Some(caller.uid)
}
