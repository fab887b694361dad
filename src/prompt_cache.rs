//! The prompt cache on disk: list, verify and clear it.
//!
//! A caller sees its own entries and shared ones; root and the service's own user see and
//! delete all. The text of prompts is never shown.

use std::collections::HashMap;
use std::time::SystemTime;

use hearth_cache::{self as cache, Listed};
use hearth_proto::{Failure, FailureKind};

use crate::caller::{Caller, Principal};
use crate::config::ConfigReader;
use crate::engines::EnginePool;
use crate::models::{ModelIndex, ModelStore};

/// An entry of the prompt cache on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptEntry {
    /// The installed model that it belongs to; empty if that is no longer installed.
    pub model: String,
    /// Its owner; `None`: shared, or unknown.
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

/// The prompt cache on disk, which the engines write.
#[derive(Clone, Debug)]
pub struct PromptCache {
    config: ConfigReader,
    store: ModelStore,
    pool: EnginePool,
}

impl PromptCache {
    /// The configured cache.
    pub fn new(config: ConfigReader, store: ModelStore, pool: EnginePool) -> Self {
        Self {
            config,
            store,
            pool,
        }
    }

    /// The entries that this caller may see. With `verify` each file is read completely.
    ///
    /// # Errors
    /// `Internal` while the daemon is stopping.
    pub async fn list(&self, caller: &Caller, verify: bool) -> Result<Vec<PromptEntry>, Failure> {
        let index = self.store.refresh().await;
        let (config, user) = (self.config.get(), caller.principal);
        let listed = tokio::task::spawn_blocking(move || {
            let models = fingerprints(&index);
            let listed = cache::list(&config.paths.prompts).into_iter();
            let seen = listed.filter(|entry| may_see(user, entry));
            seen.map(|entry| describe(entry, &models, verify)).collect()
        });
        listed.await.map_err(|error| internal(&error))
    }

    /// Deletes the caller's entries, in memory and on disk; all of them for root. Returns
    /// the number of deleted files.
    ///
    /// # Errors
    /// `Io` where a file cannot be deleted.
    pub async fn clear(&self, caller: &Caller) -> Result<u32, Failure> {
        let (config, user) = (self.config.get(), caller.principal);
        let cleared = tokio::task::spawn_blocking(move || {
            cache::clear(&config.paths.prompts, |listed| {
                user.is_admin() || owner(listed) == Some(user.uid())
            })
        });
        let cleared = cleared.await.map_err(|error| internal(&error))?;
        let uid = (!user.is_admin()).then(|| user.uid());
        self.pool.forget_prompts(uid);
        log::info!(uid:% = user; "cached prompts cleared");
        cleared.map_err(|error| {
            Failure::new(
                FailureKind::Io,
                format!("cannot delete all cached prompts: {error}"),
            )
        })
    }
}

fn internal(error: &tokio::task::JoinError) -> Failure {
    Failure::new(FailureKind::Internal, error.to_string())
}

/// Model names by the fingerprint of their files.
fn fingerprints(index: &ModelIndex) -> HashMap<u128, String> {
    let models = index.models().iter();
    let known = models.filter_map(|m| Some((cache::fingerprint(&m.path).ok()?, m.name.clone())));
    known.collect()
}

fn describe(listed: Listed, models: &HashMap<u128, String>, verify: bool) -> PromptEntry {
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
        uid: header.as_ref().and_then(|h| h.scope.uid),
        tokens: header.map_or(0, |h| u32::try_from(h.tokens.len()).unwrap_or(u32::MAX)),
        bytes: listed.bytes,
        used_s: used.map_or(0, |used| used.as_secs()),
        problem,
    }
}

fn owner(listed: &Listed) -> Option<u32> {
    listed
        .header
        .as_ref()
        .ok()
        .and_then(|header| header.scope.uid)
}

fn may_see(user: Principal, listed: &Listed) -> bool {
    let is_shared = listed.header.as_ref().is_ok_and(|h| h.scope.uid.is_none());
    user.is_admin() || is_shared || owner(listed) == Some(user.uid())
}
