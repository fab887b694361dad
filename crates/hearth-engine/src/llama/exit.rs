//! Leaving the process while other threads still compute.

/// Ends the process at once, without destructors: those of the C++ libraries would
/// destroy what compute threads still use.
pub fn leave(code: i32) -> ! {
    // SAFETY: _exit ends the process; nothing runs after it.
    unsafe { nix::libc::_exit(code) }
}
