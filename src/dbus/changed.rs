//! Properties that changed together are announced together: a client that redraws itself does so
//! once, and never sees a state that did not exist.

use std::borrow::Cow;
use std::collections::HashMap;

use zbus::Variant;
use zbus::fdo::Properties;
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;

/// The properties of one interface that have a new value.
#[derive(Debug, Default)]
pub(super) struct Changed(HashMap<&'static str, Variant<'static>>);

impl Changed {
    /// Adds a property if its value is another one.
    pub(super) fn add<T: PartialEq>(
        &mut self,
        name: &'static str,
        (old, new): (&T, &T),
        value: impl FnOnce(&T) -> Variant<'static>,
    ) {
        if old != new {
            self.0.insert(name, value(new));
        }
    }

    /// Announces them in one signal; nothing if there are none.
    pub(super) async fn emit(
        self,
        emitter: &SignalEmitter<'_>,
        interface: &'static str,
    ) -> zbus::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let interface = InterfaceName::try_from(interface)?;
        Properties::properties_changed(emitter, interface, self.0, Cow::Borrowed(&[])).await
    }
}

/// A text as a property's value.
pub(super) fn text(text: &str) -> Variant<'static> {
    Variant::from(text.to_owned())
}
