//! The model files: their location, their headers, import.

mod store;

pub use crate::protocol::check_name;
pub use store::{Import, Store, StoredModel};
