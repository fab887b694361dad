//! The installed adapters.

use hearth_proto::{Failure, ModelEntry, ModelRef};

use super::Daemon;
use super::models::entry;

impl Daemon {
    /// The installed adapters, by name.
    pub async fn adapters(&self) -> Vec<ModelEntry> {
        let index = self.store.refresh().await;
        let entries = index.adapters().iter().map(|adapter| {
            let bases = index.bases_of(&adapter.name);
            let header = adapter.header.as_ref().ok();
            let problem = match header.map(|header| header.check_adapter()) {
                Some(Err(problem)) => problem.to_string(),
                _ if bases.is_empty() => {
                    let made_from = header.map_or("", |header| &header.base_model);
                    let of = if made_from.is_empty() {
                        ""
                    } else {
                        ": its base is "
                    };
                    format!("no installed model fits{of}{made_from}")
                }
                _ => String::new(),
            };
            ModelEntry {
                bases: bases.into_iter().map(str::to_owned).collect(),
                problem,
                ..entry(adapter, None)
            }
        });
        entries.collect()
    }

    /// The names of the adapters that requests to the loaded model, else to the default one, may
    /// name. Their places are their numbers in requests.
    ///
    /// # Errors
    /// `ModelNotFound`.
    pub async fn adapters_in_use(&self) -> Result<Vec<String>, Failure> {
        let pool = self.pool.status();
        let wanted = match pool.first() {
            Some(loaded) => ModelRef::named(&loaded.name),
            None => ModelRef::Default,
        };
        let model = self.store.find(&wanted).await?;
        let index = self.store.index();
        let adapters = index.adapters_of(&model.name).into_iter();
        Ok(adapters.map(|adapter| adapter.name.clone()).collect())
    }
}
