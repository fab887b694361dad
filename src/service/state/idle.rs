//! When an idle model is unloaded.

use std::time::Duration;

use super::{BEAT, Inner};
use crate::service::keep_alive::{Keep, is_gone};
use crate::service::prewarm::is_shared;

impl Inner {
    /// The supervisor's heartbeat.
    pub(in crate::service) fn beat(&mut self, now: Duration) {
        self.beat = now;
        if self.is_in_use() {
            self.last_busy = now;
        }
        if self.holds.are_open() {
            self.last_used = Some(now);
        }
    }

    /// A use of a model ended: from now on its keep-alive counts, as the user or the
    /// configuration sets it.
    pub(in crate::service) fn used(&mut self, now: Duration, model: &str, keep: Option<&Keep>) {
        let Some(keep) = keep else {
            self.last_used = Some(now);
            return;
        };
        self.holds.keep(keep, model, now, is_gone);
        let is_let_go = self.holds.until(model).is_some_and(|until| until <= now);
        let is_loaded = self.is_ready() && self.loaded_model() == Some(model);
        let is_held = self.has_askers() || self.holds.are_open();
        if keep.is_over() && is_let_go && is_loaded && !is_held {
            log::info!(model = model; "the model is let go");
            self.unload();
        }
    }

    /// Unloads a model that was idle for `limit` and has no inhibitor; returns whether it
    /// did. A limit of zero keeps it for ever.
    pub(in crate::service) fn unload_idle(&mut self, now: Duration, limit: Duration) -> bool {
        let is_due = self.is_ready()
            && !self.is_in_use()
            && self.stays_until(limit).is_some_and(|until| until <= now);
        if is_due {
            self.unload();
        }
        is_due
    }

    /// When the loaded model is unloaded if it is not used again; `None`: never.
    pub(in crate::service) fn stays_until(&self, limit: Duration) -> Option<Duration> {
        if limit.is_zero() || self.holds.are_open() {
            return None;
        }
        let model = self.loaded_model().unwrap_or_default();
        let kept = self.holds.until(model)?;
        let used = self.last_used.map_or(Duration::ZERO, |used| used + limit);
        // The caller that loaded it may be about to use it.
        Some(kept.max(used).max(self.last_busy + BEAT))
    }

    fn is_in_use(&self) -> bool {
        self.is_busy() || !self.queue.is_empty()
    }

    /// Whether a caller waits for an answer; the configured prompts have no caller.
    fn has_askers(&self) -> bool {
        let running = self.running.values();
        !self.asked.is_empty()
            || self.asked_for() > 0
            || running.map(|r| &r.waiting.request).any(|r| !is_shared(r))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::config::GovernorConfig;
    use crate::protocol::{ChatAbilities, ModelInfo, ModelKind};
    use crate::service::keep_alive::{Client, KeepAlive};
    use crate::service::state::{Engine, FileId, governor_settings};

    const LIMIT: Duration = Duration::from_secs(100);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A model `m` that was loaded at 10 s, for a caller with or without a keep-alive of
    /// its own.
    fn loaded(keeps: bool) -> Inner {
        let mut inner = Inner::new(governor_settings(&GovernorConfig::default(), 1));
        let (waiter, _) = oneshot::channel();
        inner.want("m".into(), Some(waiter), keeps);
        let (commands, _) = mpsc::unbounded_channel();
        inner.engine = Some(Engine {
            model: "m".into(),
            commands,
            pid: None,
            info: None,
            is_ending: false,
            file: FileId::default(),
            note: String::new(),
        });
        let info = ModelInfo {
            description: String::new(),
            kind: ModelKind::Chat,
            parameters: 0,
            size_bytes: 0,
            context_size: 1,
            context_train: 1,
            slots: 1,
            kv_tokens: 1,
            kv_token_bytes: 1,
            vocab_size: 1,
            cpu: String::new(),
            has_chat_template: false,
            chat: ChatAbilities::default(),
            load_ms: 0,
        };
        inner.loaded(at(10), info);
        inner
    }

    fn wish(agent: &str, time: KeepAlive) -> Keep {
        let client = Client {
            uid: 1,
            pid: 0,
            agent: agent.into(),
        };
        Keep { client, time }
    }

    fn seconds(agent: &str, n: u64) -> Keep {
        wish(agent, KeepAlive::For(at(n)))
    }

    #[test]
    fn the_longest_of_all_wishes_counts() {
        let until = |inner: &Inner| inner.stays_until(LIMIT);
        // A caller with a keep-alive has loaded it, and may be about to send a request.
        let mut inner = loaded(true);
        assert_eq!(until(&inner), Some(at(10) + BEAT));
        inner.used(at(12), "m", Some(&seconds("a", 30)));
        assert_eq!(until(&inner), Some(at(42)));
        inner.used(at(13), "m", Some(&seconds("b", 10)));
        inner.used(at(14), "another", Some(&wish("c", KeepAlive::Forever)));
        assert_eq!(until(&inner), Some(at(42)));
        inner.used(at(20), "m", None);
        assert_eq!(until(&inner), Some(at(120)));
        inner.used(at(21), "m", Some(&wish("a", KeepAlive::Forever)));
        assert_eq!(until(&inner), None);
        assert!(!inner.unload_idle(at(1000), LIMIT));
        inner.used(at(22), "m", Some(&seconds("a", 1)));
        assert!(!inner.unload_idle(at(119), LIMIT));
        // Zero in the configuration means never.
        assert!(!inner.unload_idle(at(1000), Duration::ZERO));
        assert!(inner.unload_idle(at(120), LIMIT));
        assert_eq!(inner.wanted(), None);
    }

    #[test]
    fn it_is_let_go_when_nobody_cares() {
        let gone = |inner: &mut Inner| {
            inner.used(at(20), "m", Some(&seconds("a", 0)));
            inner.wanted().is_none()
        };
        let mut inner = loaded(false);
        assert_eq!(inner.stays_until(LIMIT), Some(at(110)));
        inner.used(at(19), "m", Some(&wish("b", KeepAlive::Forever)));
        assert!(!gone(&mut inner));
        inner.used(at(19), "m", Some(&seconds("b", 0)));
        assert!(inner.wanted().is_none());

        let mut inner = loaded(false);
        inner.used(at(20), "another", Some(&seconds("a", 0)));
        assert_eq!(inner.wanted(), Some("m"));
        let cookie = inner.holds.add(":1.1").unwrap();
        assert!(!gone(&mut inner));
        inner.holds.release(":1.1", cookie);
        assert!(gone(&mut inner));
        // An unload on request discards the keep-alives.
        let mut inner = loaded(false);
        inner.used(at(19), "m", Some(&wish("b", KeepAlive::Forever)));
        inner.unload();
        assert_eq!(inner.stays_until(LIMIT), Some(at(110)));
    }
}
