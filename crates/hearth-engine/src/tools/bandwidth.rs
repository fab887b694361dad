//! Memory bandwidth of this machine: decoding a token reads all weights once, so this
//! limits its speed.

use std::fs;
use std::hint::black_box;
use std::sync::Barrier;

use crate::clock;
use crate::llama::available;

/// The buffer has at least `BYTES_MIN` bytes, and `CACHES` times the last-level cache.
const BYTES_MIN: u64 = 256 << 20;
const CACHES: u64 = 4;
/// Passes over the buffer; the fastest counts, since disturbances only slow a pass down.
const PASSES: u32 = 7;

/// Bytes per second that `threads` threads read together, from a buffer larger than the
/// caches.
pub(super) fn bandwidth(threads: u32) -> f64 {
    let threads = threads.max(1) as usize;
    let words = usize::try_from(buffer_bytes() / 8).unwrap_or(1 << 24);
    // Written once, so that every page is resident.
    let buffer: Vec<u64> = (0..words as u64).collect();
    let parts: Vec<&[u64]> = buffer.chunks(words.div_ceil(threads)).collect();
    let barrier = Barrier::new(parts.len() + 1);
    let mut best = f64::INFINITY;
    std::thread::scope(|scope| {
        for part in &parts {
            let barrier = &barrier;
            scope.spawn(move || {
                for _ in 0..PASSES {
                    barrier.wait();
                    black_box(sum(black_box(part)));
                    barrier.wait();
                }
            });
        }
        for _ in 0..PASSES {
            barrier.wait();
            let began = clock::now();
            barrier.wait();
            best = best.min(clock::ms_since(began));
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "a buffer is below 2^52 bytes")]
    let bytes = (buffer.len() * 8) as f64;
    bytes * 1000.0 / best.max(1e-6)
}

/// Reads every word; in lanes, so that additions do not wait for each other.
fn sum(words: &[u64]) -> u64 {
    let (lanes, rest) = words.as_chunks::<16>();
    let mut sums = [0u64; 16];
    for lane in lanes {
        for (sum, word) in sums.iter_mut().zip(lane) {
            *sum = sum.wrapping_add(*word);
        }
    }
    let all = sums.iter().chain(rest);
    all.fold(0, |all, word| all.wrapping_add(*word))
}

/// Larger than the last-level cache, at most a quarter of the available memory.
fn buffer_bytes() -> u64 {
    let wanted = BYTES_MIN.max(CACHES * last_cache());
    available().map_or(wanted, |free| wanted.min(free / 4))
}

/// Bytes of the largest cache of the first processor; 0 where the kernel does not report
/// it.
fn last_cache() -> u64 {
    let size = |n: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{n}/size");
        let text = fs::read_to_string(path).ok()?;
        // Always in KiB (Documentation/ABI/stable/sysfs-devices-system-cpu).
        let kib: u64 = text.trim().strip_suffix('K')?.parse().ok()?;
        Some(kib << 10)
    };
    (0..8).filter_map(size).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (0..1000).collect();
        assert_eq!(sum(&words), 999 * 1000 / 2);
        assert_eq!(sum(&[]), 0);
    }
}
