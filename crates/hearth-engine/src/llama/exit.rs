//! Leaving the process while other threads still compute.

/// Ends the process at once, without destructors: those of the C++ libraries would run
/// under compute threads that still use what they destroy.
pub fn leave(code: i32) -> ! {
    // SAFETY: _exit ends the process; nothing runs after it.
    unsafe { nix::libc::_exit(code) }
}
