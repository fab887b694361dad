//! Floor 4: the model files: where they lie, what their headers say, import.

mod gguf;
mod store;

pub use gguf::{GgufError, Header, read_header};
pub use store::{Import, Store, StoredModel, check_name};
