//! A load as a job: how far it is, and its end before the model is ready.

use std::convert::Infallible;

use super::EnginePool;

impl EnginePool {
    /// Stops loading a model, unless others wait for it or something keeps it in memory.
    /// `is_awaited`: requests wait for it.
    pub(crate) fn cancel_load(&self, model: &str, is_awaited: bool) {
        let now = self.now();
        self.change(|residency| residency.cancel_load(now, model, is_awaited));
    }

    /// Calls `report` with how much of a model is loaded, 0 to 1, when that changes; never
    /// returns.
    pub async fn follow_load(&self, model: &str, report: impl Fn(f64)) -> Infallible {
        let mut status = self.subscribe();
        let mut shown = None;
        loop {
            let loading = {
                let status = status.borrow_and_update();
                let loading = status.get(model).filter(|model| !model.is_ending);
                loading.map(|model| (model.serial, model.load_progress))
            };
            if let Some((_, share)) = loading.filter(|now| Some(*now) != shown && now.1 > 0.0) {
                shown = loading;
                report(f64::from(share));
            }
            if status.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
