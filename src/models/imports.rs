//! The imports that run, and how far they are.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// How much of a file was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes so far.
    pub done: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// The imports that run, by the name of the model.
#[derive(Clone, Debug, Default)]
pub(super) struct Imports(Arc<Mutex<HashMap<String, watch::Receiver<Copied>>>>);

/// One of them; it is over when this is dropped.
#[derive(Debug)]
pub(super) struct RunningImport {
    imports: Imports,
    name: String,
    copied: watch::Sender<Copied>,
}

impl Imports {
    /// Begins one. Of two with the same name the later one is shown.
    pub(super) fn begin(&self, name: &str) -> RunningImport {
        let (copied, watched) = watch::channel(Copied::default());
        self.0.lock().insert(name.to_owned(), watched);
        RunningImport {
            imports: self.clone(),
            name: name.to_owned(),
            copied,
        }
    }

    /// How far the import of this name is; the channel closes when it ends.
    pub(super) fn watch(&self, name: &str) -> Option<watch::Receiver<Copied>> {
        self.0.lock().get(name).cloned()
    }
}

impl RunningImport {
    /// Reports how much was copied.
    pub(super) fn report(&self, done: u64, total: u64) {
        self.copied.send_replace(Copied { done, total });
    }
}

impl Drop for RunningImport {
    fn drop(&mut self) {
        let mut imports = self.imports.0.lock();
        let own = self.copied.subscribe();
        if imports
            .get(&self.name)
            .is_some_and(|other| other.same_channel(&own))
        {
            imports.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_import_is_shown_until_it_ends() {
        let imports = Imports::default();
        assert!(imports.watch("m").is_none());
        let first = imports.begin("m");
        let second = imports.begin("m");
        drop(first);
        let mut watched = imports.watch("m").unwrap();
        second.report(3, 9);
        watched.changed().await.unwrap();
        assert_eq!(*watched.borrow_and_update(), Copied { done: 3, total: 9 });
        drop(second);
        assert!(watched.changed().await.is_err() && imports.watch("m").is_none());
    }
}
