//! What the slots of an engine do.

use hearth_proto::RequestId;

use super::Dispatcher;
use super::entry::Running;

/// A request in an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processing {
    /// Which.
    pub id: RequestId,
    /// Tokens generated so far.
    pub generated: u32,
    /// How many more it may generate; `None`: as many as the context holds.
    pub remaining: Option<u32>,
}

impl Processing {
    fn of(id: RequestId, running: &Running) -> Self {
        let tokens = running.waiting.progress.tokens.len();
        let generated = u32::try_from(tokens).unwrap_or(u32::MAX);
        let bound = running.waiting.request.max_tokens;
        let bound = bound.filter(|most| *most < u32::MAX);
        Self {
            id,
            generated,
            remaining: bound.map(|most| most.saturating_sub(generated)),
        }
    }
}

impl Dispatcher {
    /// The requests of a model that its engine processes, oldest first.
    pub fn processing(&self, model: &str) -> Vec<Processing> {
        let requests = self.shared.requests.lock();
        let running = requests.running.iter();
        let own = running.filter(|(_, running)| running.waiting.model == model);
        let mut own: Vec<Processing> = own
            .map(|(id, running)| Processing::of(*id, running))
            .collect();
        own.sort_by_key(|processing| processing.id);
        own
    }
}
