//! Refuses pictures and sounds that the model cannot take, before it is loaded.

use hearth_gguf::ProjectorHeader;
use hearth_proto::{Failure, FailureKind, MediaKind, Prompt, check_media};

use super::Dispatcher;
use crate::models::{ModelIndex, ProjectorOf};

/// Whether a projector takes media of a kind.
fn takes(projector: &ProjectorHeader, kind: MediaKind) -> bool {
    match kind {
        MediaKind::Picture => projector.vision,
        MediaKind::Sound => projector.audio,
    }
}

fn plural(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Picture => "pictures",
        MediaKind::Sound => "sounds",
    }
}

/// Which models take media of a kind, for the end of a refusal.
fn others(index: &ModelIndex, kind: MediaKind) -> String {
    let names = index.with_projector(|projector| takes(projector, kind));
    let what = plural(kind);
    if names.is_empty() {
        return format!("no installed model takes {what}");
    }
    format!("models that take {what}: {}", names.join(", "))
}

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
        let wants = |kind| prompt.media().any(|media| media.kind == kind);
        let kind = if wants(MediaKind::Sound) {
            MediaKind::Sound
        } else {
            MediaKind::Picture
        };
        let index = self.shared.store.index();
        let Some(stored) = index.get(model) else {
            // The engine will report it.
            return Ok(());
        };
        let not_supported = |why: String| Err(Failure::new(FailureKind::NotSupported, why));
        let projector = match index.projector_of(stored) {
            ProjectorOf::Found(found) => found.header.ok().and_then(|header| header.projector),
            ProjectorOf::Unusable(why) => {
                return not_supported(format!(
                    "{model} takes no pictures or sounds: {why}; {}",
                    others(&index, kind)
                ));
            }
            ProjectorOf::None => {
                return not_supported(format!(
                    "{model} takes no pictures or sounds: no projector (mmproj file) is installed \
                     for it; `hearthctl import --projector MMPROJ FILE` imports a model with its \
                     projector; {}",
                    others(&index, kind)
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
        for kind in [MediaKind::Picture, MediaKind::Sound] {
            if wants(kind) && !takes(&projector, kind) {
                return not_supported(format!(
                    "{model} takes no {}: leave them out, or name another model; {}",
                    plural(kind),
                    others(&index, kind)
                ));
            }
        }
        Ok(())
    }
}
