//! The model files: where they lie, what their headers say, import.

mod store;

pub use crate::protocol::check_name;
pub use store::{Import, Store, StoredModel};
