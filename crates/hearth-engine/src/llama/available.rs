//! Whether there is memory for a context.

use hearth_proto::units::Bytes;
use hearth_proto::{Failure, FailureKind};

/// Bytes that are available without swapping.
pub(crate) fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Refuses a context that would only trigger the OOM killer.
pub(super) fn check_memory(needed: u64, context_size: u32) -> Result<(), Failure> {
    match available() {
        Some(available) if needed > available => {
            let (needed, available) = (Bytes(needed), Bytes(available));
            Err(no_memory(
                context_size,
                &format!("{needed} needed, {available} available"),
            ))
        }
        _ => Ok(()),
    }
}

pub(super) fn no_memory(context_size: u32, why: &str) -> Failure {
    Failure::new(
        FailureKind::OutOfMemory,
        format!(
            "no memory for a context of {context_size} tokens ({why}): set a smaller \
             `model.context` or `model.kv_type = \"q8_0\"`"
        ),
    )
}
