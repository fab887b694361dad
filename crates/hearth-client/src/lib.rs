//! The D-Bus interface of Hearthd for Rust programs.
//!
//! [`Client`] holds a connection and the proxies of the objects that are always there;
//! [`Client::model`], [`Client::job`] and [`Client::session`] give those of the others. The
//! methods are those of the interface, which `man 5 org.hearthd.Inference1` describes with their
//! options. [`Events`] reads the pipe of a stream, and [`FailureName`] tells what a failed call
//! means.
//!
//! No call has a timeout: loading a model or reading a long prompt may take minutes on a small
//! board.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), hearth_client::Error> {
//! use hearth_client::{Client, Event, Events, Options};
//!
//! let client = Client::system().await?;
//! let options = Options::from([("system", "Answer in one sentence.".into())]);
//! let session = client.session(client.service.open_session(&options).await?).await?;
//! let pipe = session.open_stream("What is the capital of Italy?", &Options::new()).await?;
//! let mut events = Events::new(pipe)?;
//! while let Some(line) = events.next().await? {
//!     if let Event::Token { text, .. } = line.event {
//!         print!("{text}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod events;
mod objects;
mod proxies;

use std::collections::{BTreeMap, HashMap};

use zbus::{OwnedVariant, Variant};

pub use client::Client;
pub use error::{Error, FailureName};
pub use events::{Event, EventLine, Events, ToolCall};
pub use hearth_proto::FailureKind;
pub use objects::{JobProxy, ModelProxy, SessionProxy};
pub use proxies::{InferenceProxy, ModelStoreProxy, PromptCacheProxy, TuningProxy};

/// The options of a call, `a{sv}`. An option that a method does not have is an error.
pub type Options<'a> = HashMap<&'a str, Variant<'a>>;
/// A dictionary of a reply, `a{sv}`, sorted by key. A value that is not known is absent.
pub type Dict = BTreeMap<String, OwnedVariant>;

#[cfg(test)]
mod tests {
    /// The introspection files, which a test compares with the running service; and the traits.
    const INTERFACES: [(&str, &str); 7] = [
        (
            include_str!("../../../docs/api/org.hearthd.Inference1.xml"),
            include_str!("proxies.rs"),
        ),
        (
            include_str!("../../../docs/api/org.hearthd.Inference1.ModelStore.xml"),
            include_str!("proxies.rs"),
        ),
        (
            include_str!("../../../docs/api/org.hearthd.Inference1.Tuning.xml"),
            include_str!("proxies.rs"),
        ),
        (
            include_str!("../../../docs/api/org.hearthd.Inference1.PromptCache.xml"),
            include_str!("proxies.rs"),
        ),
        (
            include_str!("../../../docs/api/org.hearthd.Inference1.Model.xml"),
            include_str!("objects.rs"),
        ),
        (
            include_str!("../../../docs/api/org.hearthd.Inference1.Job.xml"),
            include_str!("objects.rs"),
        ),
        (
            include_str!("../../../docs/api/org.hearthd.Inference1.Session.xml"),
            include_str!("objects.rs"),
        ),
    ];

    fn names<'x>(xml: &'x str, element: &str) -> Vec<&'x str> {
        let parts = xml.split(element).skip(1);
        parts.filter_map(|part| part.split('"').next()).collect()
    }

    fn snake_case(name: &str) -> String {
        let mut snake = String::new();
        for character in name.chars() {
            if character.is_ascii_uppercase() && !snake.is_empty() {
                snake.push('_');
            }
            snake.push(character.to_ascii_lowercase());
        }
        snake
    }

    #[test]
    fn every_member_of_the_interface_has_a_proxy_method() {
        for (xml, source) in INTERFACES {
            let interface = names(xml, "<interface name=\"")[0];
            let marked = format!("interface = \"{interface}\"");
            let of_interface = source.split(&marked).nth(1).unwrap();
            let of_interface = of_interface.split("#[zbus::proxy(").next().unwrap();
            for element in ["<method name=\"", "<signal name=\"", "<property name=\""] {
                for name in names(xml, element) {
                    let method = format!("    fn {}(", snake_case(name));
                    assert!(of_interface.contains(&method), "{interface}.{name}");
                }
            }
        }
    }
}
