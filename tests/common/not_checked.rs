//! What a machine does not allow to be tested is said, not passed over.

use std::io::Write as _;

/// Says what was not checked, past the capture of the test harness: a test that passes
/// shows nothing of what it prints.
pub fn not_checked(what: &str) {
    let _ = writeln!(std::io::stderr(), "NOT CHECKED: {what}");
}
