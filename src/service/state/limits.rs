//! Which users may submit another request, and what each request costs.

use std::time::Duration;

use super::Inner;
use crate::config::LimitsConfig;
use crate::protocol::{Event, Failure, FailureKind};
use crate::service::RETRY_S;
use crate::service::types::Caller;

impl Inner {
    /// Checks whether this caller's user may submit another request.
    pub(in crate::service) fn check_jobs(
        &self,
        caller: &Caller,
        limits: &LimitsConfig,
    ) -> Result<(), Failure> {
        if limits.jobs_max == 0 || limits.exempt_uids.contains(&caller.uid) {
            return Ok(());
        }
        let waiting = self.queue.iter().map(|(_, waiting)| waiting);
        let all = waiting.chain(self.running.values().map(|running| &running.waiting));
        let own = all.filter(|w| w.request.uid == Some(caller.uid)).count();
        if own < limits.jobs_max as usize {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::QuotaExceeded,
            format!(
                "uid {} has {own} requests already, `limits.jobs_max` allows no more: try again when one is done",
                caller.uid
            ),
        )
        .retry_after(RETRY_S))
    }

    /// Checks whether this caller's user may use more tokens.
    pub(in crate::service) fn check_tokens(
        &mut self,
        now: Duration,
        caller: &Caller,
        limits: &LimitsConfig,
    ) -> Result<(), Failure> {
        let limit = limits.tokens_per_hour;
        if limit == 0 || limits.exempt_uids.contains(&caller.uid) {
            return Ok(());
        }
        let Some(seconds) = self.quotas.refused_s(now, caller.uid, limit) else {
            return Ok(());
        };
        let used = self.quotas.used(now, caller.uid);
        Err(Failure::new(
            FailureKind::QuotaExceeded,
            format!(
                "uid {} has had {used} tokens within an hour, `limits.tokens_per_hour` is {limit}: try again in {seconds} s",
                caller.uid
            ),
        )
        .retry_after(seconds))
    }

    /// Charges what an event reports as computed.
    pub(super) fn charge(&mut self, now: Duration, event: &Event) {
        let (Event::Started { id, .. }
        | Event::Prefill { id, .. }
        | Event::Token { id, .. }
        | Event::Finished { id, .. }) = event
        else {
            return;
        };
        let Some(running) = self.running.get_mut(id) else {
            return;
        };
        let charged = &mut running.waiting.charged;
        let tokens = match event {
            Event::Started { cached_tokens, .. } => charged.cached(*cached_tokens),
            Event::Prefill { done, .. } => charged.prompt(*done),
            Event::Token { generated, .. } => charged.generated(*generated),
            Event::Finished { usage, .. } => {
                charged.prompt(usage.prompt_tokens) + charged.generated(usage.completion_tokens)
            }
            _ => 0,
        };
        if let Some(uid) = running.waiting.request.uid {
            self.quotas.charge(now, uid, tokens);
        }
    }
}
