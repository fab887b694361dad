//! The prompt cache on disk: an interface of the object at `/org/hearthd/Inference1`.

use std::collections::HashMap;

use zbus::connection::Connection;
use zbus::message::Header;
use zbus::{OwnedVariant, interface};

use super::Error;
use super::callers::Callers;
use super::options::{self, Options};
use super::polkit::{self, Action};
use super::values::prompt_entry;
use crate::daemon::Daemon;

type Entries = Vec<HashMap<&'static str, OwnedVariant>>;

/// The interface `org.hearthd.Inference1.PromptCache`.
#[derive(Debug)]
pub(super) struct PromptCache {
    daemon: Daemon,
    callers: Callers,
}

impl PromptCache {
    pub(super) const fn new(daemon: Daemon, callers: Callers) -> Self {
        Self { daemon, callers }
    }

    async fn entries(
        &self,
        header: &Header<'_>,
        connection: &Connection,
        verify: bool,
    ) -> Result<Entries, Error> {
        let peer = self.callers.identify(header, connection).await?;
        let prompts = self.daemon.prompts.list(&peer.caller, verify).await?;
        Ok(prompts.into_iter().map(prompt_entry).collect())
    }
}

#[interface(name = "org.hearthd.Inference1.PromptCache")]
impl PromptCache {
    /// Lists the prompts on disk: the caller's entries and the shared ones; all for root.
    #[zbus(out_args("prompts"))]
    async fn list(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Entries, Error> {
        self.entries(&header, connection, false).await
    }

    /// As `List`, and verifies the checksums of each entry.
    #[zbus(out_args("prompts"))]
    async fn verify(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<Entries, Error> {
        self.entries(&header, connection, true).await
    }

    /// Deletes the caller's entries, in memory and on disk; all for root. Returns the number
    /// of deleted files. There are no options yet.
    #[zbus(out_args("deleted"))]
    async fn clear(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<u32, Error> {
        options::check(&options, &[])?;
        let peer = self.callers.identify(&header, connection).await?;
        polkit::check(&peer, &header, connection, Action::ClearCache).await?;
        Ok(self.daemon.prompts.clear(&peer.caller).await?)
    }
}
