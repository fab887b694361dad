//! Returns unused memory of a new context to the kernel.
//!
//! llama.cpp zeroes its whole KV cache when it creates it, which makes all pages
//! resident: on a small board tens of megabytes that a short question never needs. A page
//! of zeros that is released reads as zeros again, so the contents of the cache do not
//! change, and only used pages become resident.
//!
//! llama.cpp does not report the address of the cache. It is among the mappings that
//! appear while a context is created; no compute thread exists at that time, and the
//! engine's other threads wait for messages.

use std::ffi::c_void;
use std::fs;
use std::ops::Range;

use nix::libc;

/// Smaller mappings are ignored: those that a thread may create meanwhile to read a
/// message are far smaller.
const MAPPING_MIN_BYTES: usize = 4 << 20;
/// Shorter runs of zeros are not released, because each release costs system calls.
const RUN_MIN_BYTES: usize = 64 << 10;

/// The anonymous, writable memory of this process at one moment.
#[derive(Debug)]
pub(super) struct Mappings(Vec<Range<usize>>);

impl Mappings {
    /// The current mappings; none where the kernel does not report them.
    pub(super) fn now() -> Self {
        Self(anonymous(
            &fs::read_to_string("/proc/self/maps").unwrap_or_default(),
        ))
    }

    /// Releases the pages of zeros in mappings that are new since `before`; returns their
    /// bytes.
    ///
    /// # Safety
    /// No other thread writes to memory that was mapped since.
    pub(super) unsafe fn trim_unused(before: &Self) -> usize {
        let new = Self::now().since(before);
        // SAFETY: the kernel has just listed them as readable; no other thread writes
        // there.
        new.iter().map(|range| unsafe { trim_range(range) }).sum()
    }

    /// The ranges that are mapped now and were not before, without small ones.
    fn since(&self, before: &Self) -> Vec<Range<usize>> {
        let mut all = Vec::new();
        for mapping in &self.0 {
            let mut start = mapping.start;
            // Both are sorted, as the kernel lists them.
            for old in &before.0 {
                if old.end <= start || old.start >= mapping.end {
                    continue;
                }
                all.push(start..old.start.max(start));
                start = old.end;
            }
            all.push(start.min(mapping.end)..mapping.end);
        }
        // A range that begins where an older mapping ended is that mapping grown: another
        // thread's heap.
        all.retain(|new| {
            new.len() >= MAPPING_MIN_BYTES && before.0.iter().all(|old| old.end != new.start)
        });
        all
    }
}

/// Anonymous private writable memory, from `/proc/PID/maps` (proc(5)).
fn anonymous(maps: &str) -> Vec<Range<usize>> {
    let address = |text: &str| usize::from_str_radix(text, 16).ok();
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let is_private = fields.next()? == "rw-p";
        let is_anonymous = fields.nth(2)? == "0" && fields.next().is_none();
        (is_private && is_anonymous).then_some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(parse).collect()
}

/// Releases the pages of zeros in whole pages of private anonymous memory. Pages that are
/// not resident, such as memory for a graph, are not accessed.
///
/// # Safety
/// All of it is mapped, and no other thread writes to it meanwhile.
unsafe fn trim_range(range: &Range<usize>) -> usize {
    let page = page_bytes();
    let mut bytes = 0;
    let mut run = range.start..range.start;
    let pages = range.clone().step_by(page);
    for (at, is_resident) in pages.zip(resident(range)) {
        // SAFETY: one of the range's pages, which the caller guarantees are mapped.
        let words = unsafe { std::slice::from_raw_parts(at as *const u64, page / 8) };
        if is_resident && words.iter().all(|word| *word == 0) {
            run.end = at + page;
        } else {
            bytes += release(&run);
            run = at + page..at + page;
        }
    }
    bytes + release(&run)
}

fn page_bytes() -> usize {
    // SAFETY: takes a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// Which pages of mapped memory are resident; none where the kernel does not report it.
fn resident(range: &Range<usize>) -> Vec<bool> {
    let mut pages = vec![0_u8; range.len() / page_bytes()];
    let start = range.start as *mut c_void;
    // SAFETY: writes a byte for each page of the range (mincore(2)).
    let told = unsafe { libc::mincore(start, range.len(), pages.as_mut_ptr()) } == 0;
    pages.iter().map(|byte| told && byte & 1 == 1).collect()
}

/// Releases a run and disables huge pages for it: a huge page would make 2 MiB resident
/// for each layer that is written to.
fn release(run: &Range<usize>) -> usize {
    if run.len() < RUN_MIN_BYTES {
        return 0;
    }
    let start = run.start as *mut c_void;
    // SAFETY: whole pages of a private anonymous mapping that hold zeros only, which is
    // what they read as afterwards (madvise(2)).
    unsafe {
        libc::madvise(start, run.len(), libc::MADV_NOHUGEPAGE);
        if libc::madvise(start, run.len(), libc::MADV_DONTNEED) == 0 {
            run.len()
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d19a53e000-55d19a9bb000 r-xp 00000000 fe:00 1 /usr/libexec/hearthd/hearth-engine
55d1c9106000-55d1c9306000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
7f0000100000-7f0004000000 ---p 00000000 00:00 0
7f1000000000-7f1001000000 rw-p 00000000 00:00 0
7f2000000000-7f2001000000 rw-s 00000000 00:01 7 /memfd:x
";

    #[test]
    fn only_anonymous_private_memory_counts() {
        let all = anonymous(MAPS);
        assert_eq!(
            all,
            [
                0x7f00_0000_0000..0x7f00_0010_0000,
                0x7f10_0000_0000..0x7f10_0100_0000
            ]
        );
    }

    #[test]
    fn new_mappings_are_found_beside_old_ones() {
        const MIB: usize = 1 << 20;
        let of = |ranges: &[(usize, usize)]| {
            Mappings(ranges.iter().map(|(a, b)| a * MIB..b * MIB).collect())
        };
        let before = of(&[(100, 110), (200, 201)]);
        for (now, new) in [
            // A separate mapping; one before an old one; one on both sides of an old one.
            (vec![(10, 20), (100, 110), (200, 201)], vec![(10, 20)]),
            (vec![(90, 110), (200, 201)], vec![(90, 100)]),
            (vec![(90, 120), (200, 201)], vec![(90, 100)]),
            // A heap that has grown; something small; nothing.
            (vec![(100, 110), (200, 264)], vec![]),
            (vec![(50, 51), (100, 110)], vec![]),
            (vec![(100, 110), (200, 201)], vec![]),
            (vec![], vec![]),
        ] {
            assert_eq!(of(&now).since(&before), of(&new).0, "{now:?}");
        }
    }

    #[test]
    fn only_pages_of_zeros_are_released() {
        const BYTES: usize = 24 << 20;
        let resident_bytes = |range: &Range<usize>| {
            let pages = resident(range);
            pages.iter().filter(|is_resident| **is_resident).count() * page_bytes()
        };
        let mut memory = vec![1_u8; BYTES];
        memory[..20 << 20].fill(0);
        let start = (memory.as_ptr() as usize).next_multiple_of(1 << 16);
        let range = start..start + BYTES - (1 << 16);
        assert_eq!(resident_bytes(&range), range.len());
        // SAFETY: the memory belongs to this test.
        let bytes = unsafe { trim_range(&range) };
        assert!(bytes > 19 << 20, "{bytes}");
        assert!(resident_bytes(&range) <= range.len() - bytes);
        assert!(memory[..20 << 20].iter().all(|byte| *byte == 0));
        assert!(memory[20 << 20..].iter().all(|byte| *byte == 1));
    }
}
