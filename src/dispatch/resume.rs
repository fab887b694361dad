//! State with which a request survives a crash of the engine: the tokens that were sent,
//! and whether the request may be the cause. No I/O.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use hearth_proto::GenerateRequest;

use crate::engines::Death;

/// Crashes of a request at the same place after which it fails.
const CRASHES_MAX: u32 = 2;
/// Crashes of a request in all, also if it made progress in between.
const CRASHES_IN_ALL_MAX: u32 = 8;
/// Kills of the engine from outside at the same place, after work on the request began: the
/// OOM killer's are such kills, and another process may be their cause.
const KILLS_MAX: u32 = 5;
/// Kills from outside at the same place, also before work on the request began.
const KILLS_IN_ALL_MAX: u32 = 50;
/// How long a request that failed this way is refused.
const QUARANTINE: Duration = Duration::from_mins(10);
/// The most requests in quarantine.
const QUARANTINE_MAX: usize = 64;

/// How far a request got, over all engines that ran it.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Tokens of the answer whose text was sent.
    pub(super) tokens: Vec<i32>,
    /// Whether its start was reported to the caller.
    pub(super) is_started: bool,
    crashes: u32,
    crashes_in_all: u32,
    kills: u32,
    kills_in_all: u32,
}

impl Progress {
    /// Adds tokens of the answer: an earlier crash was at another place.
    pub(super) fn advance(&mut self, tokens: &[i32]) {
        self.tokens.extend(tokens);
        self.crashes = 0;
        self.kills = 0;
        self.kills_in_all = 0;
    }

    /// Whether it may have crashed the engine: it runs alone until it makes progress.
    pub(super) fn is_suspect(&self) -> bool {
        self.crashes > 0
    }

    /// Records that the engine died while it had this request; returns whether the
    /// request fails. `began` is whether the engine had started it.
    pub(super) fn record_death(&mut self, death: Death, began: bool) -> bool {
        match death {
            Death::Crashed => {
                self.crashes += 1;
                self.crashes_in_all += 1;
            }
            Death::Killed => {
                self.kills += u32::from(began);
                self.kills_in_all += 1;
            }
        }
        self.crashes >= CRASHES_MAX
            || self.crashes_in_all >= CRASHES_IN_ALL_MAX
            || self.kills >= KILLS_MAX
            || self.kills_in_all >= KILLS_IN_ALL_MAX
    }
}

/// Requests that killed the engine, refused for a while.
#[derive(Clone, Debug, Default)]
pub(super) struct Quarantine(Vec<(u64, Duration)>);

impl Quarantine {
    /// Starts to refuse a request at `now`.
    pub(super) fn add(&mut self, now: Duration, request: &GenerateRequest) {
        if self.0.len() >= QUARANTINE_MAX {
            self.0.remove(0);
        }
        self.0.push((hash(request), now + QUARANTINE));
    }

    /// For how many more seconds a request is refused.
    pub(super) fn refused_s(&mut self, now: Duration, request: &GenerateRequest) -> Option<u32> {
        self.0.retain(|(_, until)| *until > now);
        if self.0.is_empty() {
            return None;
        }
        let wanted = hash(request);
        let (_, until) = self.0.iter().find(|(hash, _)| *hash == wanted)?;
        Some(
            u32::try_from(until.saturating_sub(now).as_secs())
                .unwrap_or(u32::MAX)
                .max(1),
        )
    }
}

/// Hash of what the engine computes with: the prompt, the constraint and the adapters.
fn hash(request: &GenerateRequest) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in [
        serde_json::to_string(&request.prompt),
        serde_json::to_string(&request.constraint),
        serde_json::to_string(&request.lora),
    ] {
        part.unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_proto::Prompt;

    #[test]
    fn a_request_fails_after_two_crashes_at_one_place() {
        let mut progress = Progress::default();
        assert!(!progress.record_death(Death::Crashed, true));
        assert!(progress.is_suspect());
        progress.advance(&[1]);
        assert!(!progress.is_suspect());
        assert!(!progress.record_death(Death::Crashed, true));
        assert!(progress.record_death(Death::Crashed, true));
        // A request that makes a little progress each time fails in the end as well.
        let mut progress = Progress::default();
        let crashes = (1..100)
            .find(|_| {
                progress.advance(&[1]);
                progress.record_death(Death::Crashed, true)
            })
            .unwrap();
        assert_eq!(crashes, CRASHES_IN_ALL_MAX);
    }

    #[test]
    fn more_kills_than_crashes_are_tolerated() {
        let mut progress = Progress::default();
        assert!((1..KILLS_MAX).all(|_| !progress.record_death(Death::Killed, true)));
        assert!(!progress.is_suspect());
        assert!(progress.record_death(Death::Killed, true));
        // Not even begun: it is unlikely to be the cause.
        let mut progress = Progress::default();
        let kills = (1..100).find(|_| progress.record_death(Death::Killed, false));
        assert_eq!(kills, Some(KILLS_IN_ALL_MAX));
    }

    #[test]
    fn quarantine_ends() {
        let request = |text: &str| GenerateRequest {
            prompt: Prompt::Text(text.into()),
            ..GenerateRequest::default()
        };
        let mut quarantine = Quarantine::default();
        assert_eq!(quarantine.refused_s(Duration::ZERO, &request("a")), None);
        quarantine.add(Duration::ZERO, &request("a"));
        assert_eq!(
            quarantine.refused_s(Duration::ZERO, &request("a")),
            Some(600)
        );
        assert_eq!(quarantine.refused_s(Duration::ZERO, &request("b")), None);
        assert_eq!(quarantine.refused_s(QUARANTINE, &request("a")), None);
    }
}
