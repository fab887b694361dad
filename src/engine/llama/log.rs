//! llama.cpp's own log lines, passed to the `log` crate with their levels.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

use llama_cpp_sys_2 as sys;

/// How many error lines are kept for a failure's message.
const ERRORS_KEPT: usize = 4;

static ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

thread_local! {
    /// A line being put together: llama.cpp sends pieces with level CONT.
    static LINE: RefCell<(log::Level, String)> = const { RefCell::new((log::Level::Debug, String::new())) };
}

/// Routes all of llama.cpp's and ggml's output through `log`.
pub(super) fn install() {
    // SAFETY: `receive` is a plain function that takes no user data and lives for
    // the whole process.
    unsafe { sys::llama_log_set(Some(receive), std::ptr::null_mut()) };
}

/// The last error lines since the last call, oldest first.
pub(super) fn take_errors() -> Vec<String> {
    ERRORS
        .lock()
        .map(|mut errors| errors.drain(..).collect())
        .unwrap_or_default()
}

unsafe extern "C" fn receive(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    LINE.with_borrow_mut(|(current, line)| {
        if level != sys::GGML_LOG_LEVEL_CONT {
            *current = match level {
                sys::GGML_LOG_LEVEL_ERROR => log::Level::Error,
                sys::GGML_LOG_LEVEL_WARN => log::Level::Warn,
                // What llama.cpp calls info is a page of tensor names per load.
                _ => log::Level::Debug,
            };
        }
        line.push_str(&text);
        while let Some(end) = line.find('\n') {
            let whole: String = line.drain(..=end).collect();
            emit(*current, whole.trim_end());
        }
    });
}

fn emit(level: log::Level, line: &str) {
    if line.trim_matches(['.', ' ']).is_empty() {
        return;
    }
    if level == log::Level::Error
        && let Ok(mut errors) = ERRORS.lock()
    {
        if errors.len() == ERRORS_KEPT {
            errors.pop_front();
        }
        errors.push_back(line.to_owned());
    }
    log::log!(target: "llama.cpp", level, "{line}");
}
