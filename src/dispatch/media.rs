//! Refuses pictures and sounds that the model cannot take, before it is loaded.

use hearth_proto::{Failure, FailureKind, MediaKind, Prompt, check_media};

use super::Dispatcher;
use crate::models::ProjectorOf;

impl Dispatcher {
    /// Checks that the model of this name takes what the prompt contains.
    ///
    /// # Errors
    /// `InvalidArgs` where there is too much; `NotSupported`, saying what to install.
    pub(super) fn check_media(&self, model: &str, prompt: &Prompt) -> Result<(), Failure> {
        if prompt.media().next().is_none() {
            return Ok(());
        }
        check_media(prompt.media())?;
        let index = self.shared.store.index();
        let Some(stored) = index.get(model) else {
            // The engine will report it.
            return Ok(());
        };
        let not_supported = |why: String| Err(Failure::new(FailureKind::NotSupported, why));
        let projector = match index.projector_of(stored) {
            ProjectorOf::Found(found) => found.header.ok().and_then(|header| header.projector),
            ProjectorOf::Unusable(why) => {
                return not_supported(format!("{model} takes no pictures or sounds: {why}"));
            }
            ProjectorOf::None => {
                return not_supported(format!(
                    "{model} takes no pictures or sounds: no projector (mmproj file) is installed \
                     for it; `hearthctl import --projector MMPROJ FILE` imports a model with its \
                     projector"
                ));
            }
        };
        let Some(projector) = projector else {
            return Ok(());
        };
        // An engine that ends is followed by one with what is installed now.
        let pool = self.shared.pool.status();
        let loaded = pool.get(model).filter(|loaded| !loaded.is_ending);
        let info = loaded.and_then(|loaded| loaded.info.as_ref());
        if info.is_some_and(|info| !info.vision && !info.audio) {
            return not_supported(format!(
                "{model} was loaded without its projector: unload it (`hearthctl unload`), then \
                 ask again"
            ));
        }
        let has = |kind| prompt.media().any(|media| media.kind == kind);
        for (kind, can, what) in [
            (MediaKind::Picture, projector.vision, "pictures"),
            (MediaKind::Sound, projector.audio, "sounds"),
        ] {
            if has(kind) && !can {
                return not_supported(format!("{model} takes no {what}: leave them out"));
            }
        }
        Ok(())
    }
}
