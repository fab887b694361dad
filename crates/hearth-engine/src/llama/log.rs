//! llama.cpp's own log lines, passed to the `log` crate with their levels.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, PoisonError};

use llama_cpp_sys_2 as sys;
use log::Level;

/// How many error lines are kept for a failure's message.
const ERRORS_KEPT: usize = 4;

static ERRORS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

thread_local! {
    /// A line being assembled: llama.cpp sends fragments with level CONT.
    static LINE: RefCell<(Level, String)> = const { RefCell::new((Level::Debug, String::new())) };
    /// Receives each line while `listen` runs.
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

type Listener = Box<dyn FnMut(&str)>;

/// Passes each line that llama.cpp logs on this thread during `work` to `listener`: some
/// results are reported only in the log.
pub(super) fn listen<T>(listener: Listener, work: impl FnOnce() -> T) -> T {
    LISTENER.set(Some(listener));
    let done = work();
    LISTENER.set(None);
    done
}

/// Routes all of llama.cpp's and ggml's output through `log`.
pub(super) fn install() {
    // SAFETY: `receive` is a plain function that takes no user data and lives for
    // the whole process.
    unsafe { sys::llama_log_set(Some(receive), std::ptr::null_mut()) };
    super::media_ffi::log_to(Some(receive));
}

/// The last error lines since the last call, oldest first.
pub(super) fn take_errors() -> Vec<String> {
    let mut errors = ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
    errors.drain(..).collect()
}

unsafe extern "C" fn receive(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // A panic must not cross into C: in a thread that is ending the thread-local line no
    // longer exists.
    let lines = LINE.try_with(|line| {
        let Ok(mut line) = line.try_borrow_mut() else {
            return Vec::new();
        };
        let (current, line) = &mut *line;
        collect(current, line, level, &text)
    });
    for (level, line) in lines.unwrap_or_default() {
        emit(level, &line);
    }
}

/// Adds a fragment and returns the lines that it completes.
fn collect(
    current: &mut Level,
    line: &mut String,
    level: sys::ggml_log_level,
    text: &str,
) -> Vec<(Level, String)> {
    if level != sys::GGML_LOG_LEVEL_CONT {
        *current = match level {
            sys::GGML_LOG_LEVEL_ERROR => Level::Error,
            sys::GGML_LOG_LEVEL_WARN => Level::Warn,
            sys::GGML_LOG_LEVEL_DEBUG => Level::Trace,
            // What llama.cpp calls info is a page of tensor names per load.
            _ => Level::Debug,
        };
    }
    line.push_str(text);
    let mut lines = Vec::new();
    while let Some(end) = line.find('\n') {
        let whole: String = line.drain(..=end).collect();
        lines.push((*current, whole.trim_end().to_owned()));
    }
    lines
}

fn emit(level: Level, line: &str) {
    _ = LISTENER.try_with(|listener| {
        if let Ok(mut listener) = listener.try_borrow_mut()
            && let Some(listener) = listener.as_mut()
        {
            listener(line);
        }
    });
    // Rows of dots are its progress bar.
    if line.trim_matches(['.', ' ']).is_empty() {
        return;
    }
    if is_ordinary(line) || level == Level::Error && is_abort(line) {
        log::debug!(target: "llama.cpp", "{line}");
        return;
    }
    if level == Level::Error {
        let mut errors = ERRORS.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() == ERRORS_KEPT {
            errors.pop_front();
        }
        errors.push_back(line.to_owned());
    }
    log::log!(target: "llama.cpp", level, "{line}");
}

/// Warnings about intended behaviour: the cache is larger than one context, an aborted
/// batch is rolled back, and cached sequences are evicted for running ones.
fn is_ordinary(line: &str) -> bool {
    line.ends_with("possible training context overflow")
        || line.contains("removing memory module entries")
        || line.contains("failed to find a memory slot")
        || line.contains("failed to prepare attention ubatches")
        || line.contains("available cells in kv cache")
        || line.ends_with("failed to restore kv cache")
}

/// llama.cpp reports an aborted decode, an ordinary cancel, as three errors:
/// `GGML_STATUS_ABORTED` is 1, and `llama_decode` returns 2.
fn is_abort(line: &str) -> bool {
    [
        "failed with error 1",
        "compute status: 1",
        "failed to decode, ret = 2",
    ]
    .iter()
    .any(|end| line.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_lines() {
        let (mut level, mut line) = (Level::Debug, String::new());
        let mut push = |l, t: &str| collect(&mut level, &mut line, l, t);
        assert_eq!(push(sys::GGML_LOG_LEVEL_ERROR, "one "), []);
        let done = push(sys::GGML_LOG_LEVEL_CONT, "two\nthree");
        assert_eq!(done, [(Level::Error, "one two".to_owned())]);
        assert_eq!(
            push(sys::GGML_LOG_LEVEL_CONT, "\n"),
            [(Level::Error, "three".to_owned())]
        );
    }
}
