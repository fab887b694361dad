//! Admission: a model is loaded when it is its turn and there is room for it, which others
//! make.

use std::time::Duration;

use hearth_policy::residency::{Candidate, Room, make_room};
use hearth_proto::units::Bytes;
use hearth_proto::{Failure, FailureKind};
use tokio::sync::watch;

use super::EnginePool;
use super::load::{Admitted, Fit, prepare};
use super::residency::{Residency, Turn};
use super::session::unstarted;

/// A model that was used this recently does not end just for another one's whole context.
const QUIET: Duration = Duration::from_mins(1);
/// How long to wait for a change at most: that a model has become idle for long is none.
const POLL: Duration = Duration::from_secs(1);
/// The kernel's figures follow the end of a process within this time (`vm.stat_interval`).
const SETTLES: Duration = Duration::from_secs(1);

/// Waits until a model may be loaded, has others make room, and reserves its memory; `None` if
/// it is no longer wanted.
///
/// # Errors
/// `OutOfMemory` where there is no room and never will be, naming what holds it;
/// `ModelNotFound`.
pub(super) async fn admit(pool: &EnginePool, model: &str) -> Result<Option<Admitted>, Failure> {
    let mut changes = pool.shared.changed.subscribe();
    loop {
        changes.borrow_and_update();
        let turn = pool.shared.residency.lock().turn(model);
        let step = match turn {
            Turn::Never => return Ok(None),
            Turn::Later => Step::Wait,
            Turn::Now => step(pool, model).await?,
        };
        match step {
            Step::Load(admitted) => return Ok(Some(*admitted)),
            Step::Wait => wait(&mut changes).await,
            Step::Retired | Step::Again => {}
        }
    }
}

async fn wait(changes: &mut watch::Receiver<()>) {
    _ = tokio::time::timeout(POLL, changes.changed()).await;
}

enum Step {
    Load(Box<Admitted>),
    /// Others make room, or come first.
    Wait,
    /// Others were told just now to make room.
    Retired,
    /// The state has changed meanwhile.
    Again,
}

async fn step(pool: &EnginePool, model: &str) -> Result<Step, Failure> {
    let before = pool.shared.residency.lock().footprints();
    let fit = prepare(pool, model, &before).await?;
    let models_max = pool.shared.config.get().engine.models_max as usize;
    let now = pool.now();
    let step = pool.change_quietly(|residency| {
        if residency.footprints() != before || residency.turn(model) != Turn::Now {
            return Ok(Step::Again);
        }
        let is_full = models_max > 0 && before.len() >= models_max;
        let step = decide(residency, now, model, fit, is_full)?;
        if let Step::Load(admitted) = &step {
            let engine = unstarted(admitted, &pool.shared.changed);
            residency.admitted(now, model, engine);
        }
        Ok(step)
    })?;
    // Another model may be the next to be loaded, or is to end.
    if matches!(step, Step::Load(_) | Step::Retired) {
        pool.wake();
    }
    Ok(step)
}

/// Loads a model, or has others make room, or says why it cannot be loaded. `is_full`: as many
/// models are in memory as the configuration allows.
fn decide(
    residency: &mut Residency,
    now: Duration,
    model: &str,
    fit: Fit,
    is_full: bool,
) -> Result<Step, Failure> {
    let missing = match &fit {
        Fit::Whole(_) => Bytes(0),
        Fit::Reduced { missing, .. } | Fit::None { missing, .. } => *missing,
    };
    let missing = Bytes(missing.0.max(u64::from(is_full)));
    if missing > Bytes(0) && residency.footprints().iter().any(|f| f.is_ending) {
        return Ok(Step::Wait);
    }
    let all = residency.candidates(now);
    let can_load = !is_full && !matches!(fit, Fit::None { .. });
    let mut candidates = all.clone();
    candidates.retain(|candidate| {
        let is_quiet = candidate.idle >= QUIET;
        // With `can_load` it is only about a larger context.
        (is_quiet || !can_load) && !residency.is_above(now, &candidate.name, model)
    });
    match (make_room(&candidates, missing), fit) {
        (Room::End(names) | Room::EndAfterWork(names), _) if !names.is_empty() => {
            let mut step = Step::Wait;
            for name in names {
                if residency.retire_when_worked(now, &name) {
                    step = Step::Retired;
                }
            }
            Ok(step)
        }
        (_, Fit::Whole(admitted) | Fit::Reduced { admitted, .. }) if can_load => {
            Ok(Step::Load(admitted))
        }
        // A higher class may need them no longer, or the figures are of before an end.
        _ if make_room(&all, missing) != Room::None || residency.since_last_end(now) < SETTLES => {
            Ok(Step::Wait)
        }
        (_, Fit::None { failure, .. }) => Err(refused(failure, residency, now, &all)),
        (_, Fit::Whole(_) | Fit::Reduced { .. }) => {
            let message = "as many models are in memory as `engine.models_max` allows";
            let failure = Failure::new(FailureKind::OutOfMemory, message);
            Err(refused(failure, residency, now, &all))
        }
    }
}

/// Adds what holds the memory to a refusal.
fn refused(
    mut failure: Failure,
    residency: &Residency,
    now: Duration,
    candidates: &[Candidate],
) -> Failure {
    let holders = candidates.iter().map(|candidate| {
        let holds = residency.holds_of(now, &candidate.name);
        let owners: Vec<String> = holds
            .into_iter()
            .map(|hold| match hold.reason.as_str() {
                "" => hold.owner,
                reason => format!("{} ({reason})", hold.owner),
            })
            .collect();
        let model = format!("{} ({})", candidate.name, candidate.frees);
        if owners.is_empty() {
            model
        } else {
            format!("{model}, kept by {}", owners.join(", "))
        }
    });
    let holders: Vec<String> = holders.collect();
    if !holders.is_empty() {
        failure.message = format!("{}; in memory: {}", failure.message, holders.join("; "));
    }
    failure
}
