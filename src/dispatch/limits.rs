//! Which users may submit another request, and what each request costs.

use std::time::Duration;

use hearth_proto::{Event, Failure, FailureKind};

use super::requests::Requests;
use crate::caller::Principal;
use crate::config::LimitsConfig;
use crate::engines::RETRY_S;

impl Requests {
    /// Checks whether a user may submit another request.
    pub(super) fn check_jobs(&self, user: Principal, limits: &LimitsConfig) -> Result<(), Failure> {
        if limits.jobs_max == 0 || limits.exempt_uids.contains(&user.uid()) {
            return Ok(());
        }
        let own = self.known();
        let own = own.filter(|w| w.request.uid == Some(user.uid())).count();
        if own < limits.jobs_max as usize {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::QuotaExceeded,
            format!(
                "user {user} already has {own} requests, the maximum of `limits.jobs_max`: try again when one has finished"
            ),
        )
        .retry_after(RETRY_S))
    }

    /// Checks whether a user may use more tokens.
    pub(super) fn check_tokens(
        &mut self,
        now: Duration,
        user: Principal,
        limits: &LimitsConfig,
    ) -> Result<(), Failure> {
        let limit = limits.tokens_per_hour;
        if limit == 0 || limits.exempt_uids.contains(&user.uid()) {
            return Ok(());
        }
        let Some(seconds) = self.quotas.refused_s(now, user.uid(), limit) else {
            return Ok(());
        };
        let used = self.quotas.used(now, user.uid());
        Err(Failure::new(
            FailureKind::QuotaExceeded,
            format!(
                "user {user} has used {used} tokens within an hour, `limits.tokens_per_hour` is {limit}: try again in {seconds} s"
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
