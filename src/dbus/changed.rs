//! Properties that changed together are announced together: a client that redraws itself does so
//! once, and never sees a state that did not exist. A property without a value is absent.

use std::borrow::Cow;
use std::collections::HashMap;

use zbus::Variant;
use zbus::fdo::{self, Properties};
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;

/// The properties of one interface that have a new value, or none any more.
#[derive(Debug, Default)]
pub(super) struct Changed {
    values: HashMap<&'static str, Variant<'static>>,
    absent: Vec<&'static str>,
}

impl Changed {
    /// Adds a property if its value is another one.
    pub(super) fn add<T: PartialEq>(
        &mut self,
        name: &'static str,
        (old, new): (&T, &T),
        value: impl FnOnce(&T) -> Variant<'static>,
    ) {
        if old != new {
            self.values.insert(name, value(new));
        }
    }

    /// Adds a property that may be absent.
    pub(super) fn add_optional<T: PartialEq>(
        &mut self,
        name: &'static str,
        (old, new): (&Option<T>, &Option<T>),
        value: impl FnOnce(&T) -> Variant<'static>,
    ) {
        match new {
            _ if old == new => {}
            Some(new) => _ = self.values.insert(name, value(new)),
            None => self.absent.push(name),
        }
    }

    /// Announces them in one signal; nothing if there are none.
    pub(super) async fn emit(
        self,
        emitter: &SignalEmitter<'_>,
        interface: &'static str,
    ) -> zbus::Result<()> {
        if self.values.is_empty() && self.absent.is_empty() {
            return Ok(());
        }
        let interface = InterfaceName::try_from(interface)?;
        let absent = Cow::Borrowed(self.absent.as_slice());
        Properties::properties_changed(emitter, interface, self.values, absent).await
    }
}

/// The value of a property that may be absent: `GetAll` leaves it out, `Get` fails with why.
pub(super) fn present<T>(value: Option<T>, why: &str) -> fdo::Result<T> {
    value.ok_or_else(|| fdo::Error::UnknownProperty(format!("it has no value now: {why}")))
}

/// A text as a property's value.
pub(super) fn text(text: &str) -> Variant<'static> {
    Variant::from(text.to_owned())
}
