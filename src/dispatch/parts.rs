//! Requests that need files beside their model: adapters, a projector.

use hearth_proto::{AdapterRef, GenerateRequest};

use super::Dispatcher;
use crate::engines::PartId;
use crate::models::ProjectorOf;

impl Dispatcher {
    /// Has the model loaded again if this request, whose adapters have names, needs a file that
    /// was installed after the model was loaded.
    pub(super) fn renew_for(&self, model: &str, request: &GenerateRequest) {
        let index = self.shared.store.index();
        let adapters = request.lora.iter().filter_map(|lora| match &lora.adapter {
            AdapterRef::Name(name) => index.file(name),
            AdapterRef::Id(_) => None,
        });
        let mut needed: Vec<PartId> = adapters.map(PartId::from).collect();
        if request.prompt.media().next().is_some()
            && let Some(stored) = index.get(model)
            && let ProjectorOf::Found(projector) = index.projector_of(stored)
        {
            needed.push(PartId::from(&projector));
        }
        if !needed.is_empty() {
            self.shared.pool.renew_for(model, &needed);
        }
    }
}
