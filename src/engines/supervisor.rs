//! Supervisors: one for each wanted model, which runs its engine for as long as the model is
//! wanted; a lost one is replaced, with back-off.

use std::time::Duration;

use hearth_proto::{Failure, FailureKind};
use tokio::task::JoinSet;

use super::pressure::Pressure;
use super::session::{Ended, run_engine};
use super::{Death, EnginePool, PoolEvent};

/// First pause after a crash; doubled up to the longest one.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_LONGEST: Duration = Duration::from_secs(10);
/// Consecutive crashes while loading after which loading the model fails.
const LOAD_CRASHES_MAX: u32 = 3;
/// The same for kills from outside, which do not imply a fault of the file: by a person, or
/// by the kernel for lack of memory.
const LOAD_KILLS_MAX: u32 = 8;

/// Starts a supervisor for each wanted model, and divides the board's limits between the
/// engines, until the pool stops.
pub(super) async fn run(pool: &EnginePool) {
    let mut changes = pool.shared.changed.subscribe();
    let mut board = pool.shared.board.subscribe();
    let mut pressure = Pressure::default();
    let mut supervisors = JoinSet::new();
    loop {
        changes.borrow_and_update();
        for model in pool.shared.residency.lock().supervise() {
            supervisors.spawn(supervise(pool.clone(), model));
        }
        if supervisors.is_empty() && pool.shared.residency.lock().is_stopping() {
            return;
        }
        let (now, limits) = (pool.now(), pool.shared.board.limits());
        let divided = pool.shared.residency.lock().divide(now, &limits);
        let due = [divided, pressure.due()].into_iter().flatten().min();
        let is_due = async {
            match due {
                Some(due) => tokio::time::sleep(due.saturating_sub(now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changes.changed() => {}
            () = is_due => {}
            Ok(()) = board.changed() => {}
            Some(_) = supervisors.join_next(), if !supervisors.is_empty() => {}
        }
        let state = board.borrow_and_update().verdict.memory;
        pressure.observe(pool, state);
    }
}

/// Removes a supervisor from the books when it ends, even by a panic.
struct Supervised(EnginePool, String);

impl Drop for Supervised {
    fn drop(&mut self) {
        self.0.change(|residency| residency.unsupervised(&self.1));
    }
}

/// Runs engines for a model as long as it is wanted.
async fn supervise(pool: EnginePool, model: String) {
    let _books = Supervised(pool.clone(), model.clone());
    let mut crashes_in_row = 0;
    while pool.is_wanted(&model) {
        let Some(ended) = run_engine(&pool, &model).await else {
            continue;
        };
        crashes_in_row = clear_engine(&pool, &model, ended, crashes_in_row);
        if crashes_in_row > 0 {
            let pause = BACKOFF_FIRST * 2u32.saturating_pow(crashes_in_row - 1);
            pool.change(|residency| residency.entry(&model).is_pausing = true);
            tokio::time::sleep(pause.min(BACKOFF_LONGEST)).await;
            pool.change(|residency| residency.entry(&model).is_pausing = false);
        }
    }
}

/// Takes the ended engine out of the pool; returns the number of consecutive crashes.
fn clear_engine(pool: &EnginePool, model: &str, ended: Ended, crashes_before: u32) -> u32 {
    let (mut death, mut failure, mut crashes) = (None, None, 0);
    match ended {
        Ended::Unloaded => {}
        Ended::LoadFailed(why) => failure = Some(why),
        Ended::Crashed {
            worked,
            how,
            death: how_died,
        } => {
            death = Some(how_died);
            crashes = if worked { 1 } else { crashes_before + 1 };
            log::error!(model = model, crashes = crashes; "the engine process ended unexpectedly: {how}");
            if let Some((kind, why)) = load_abandoned(worked, crashes, how_died) {
                let message = format!("the engine crashes while loading {model} ({how}): {why}");
                failure = Some(Failure::new(kind, message));
                crashes = 0;
            }
        }
    }
    let now = pool.now();
    pool.change(|residency| {
        residency.ended(now, model, death.is_some());
        if let Some(failure) = &failure {
            log::error!(model = model; "cannot load the model: {failure}");
            residency.load_failed(model, failure);
        }
    });
    pool.report(PoolEvent::Ended {
        model: model.to_owned(),
        death,
        load_failure: failure,
    });
    crashes
}

/// Whether loading is abandoned for a model whose engine keeps crashing, and why.
fn load_abandoned(worked: bool, crashes: u32, death: Death) -> Option<(FailureKind, &'static str)> {
    match death {
        _ if worked => None,
        Death::Crashed if crashes >= LOAD_CRASHES_MAX => Some((
            FailureKind::ModelInvalid,
            "the file is probably damaged: import it again",
        )),
        Death::Killed if crashes >= LOAD_KILLS_MAX => Some((
            FailureKind::OutOfMemory,
            "probably because memory is short, see `journalctl -k`: stop other programs, or use a smaller model",
        )),
        Death::Crashed | Death::Killed => None,
    }
}
