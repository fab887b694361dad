//! Writing responses.

use serde::Serialize;
use serde_json::Value;

/// A response's object as JSON. It cannot fail: all keys are strings, and a number that
/// JSON does not have becomes null.
pub(crate) fn value(body: &impl Serialize) -> Value {
    serde_json::to_value(body).unwrap_or_default()
}
