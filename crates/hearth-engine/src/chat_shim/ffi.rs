//! Safe wrappers around the C interface of `chat/shim.h`.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

#[repr(C)]
pub(crate) struct RawChat {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct RawParser {
    _opaque: [u8; 0],
}

#[allow(unsafe_code)]
// SAFETY: the declarations are those of chat/shim.h.
unsafe extern "C" {
    fn hearth_chat_new(
        source: *const c_char,
        source_len: usize,
        bos: *const c_char,
        bos_len: usize,
        eos: *const c_char,
        eos_len: usize,
        out: *mut *mut RawChat,
    ) -> *mut c_char;
    fn hearth_chat_free(chat: *mut RawChat);
    fn hearth_chat_render(chat: *const RawChat, request: *const c_char, len: usize) -> *mut c_char;
    fn hearth_chat_parser_new(
        params: *const c_char,
        len: usize,
        out: *mut *mut RawParser,
    ) -> *mut c_char;
    fn hearth_chat_parser_free(parser: *mut RawParser);
    fn hearth_chat_parse(
        parser: *const RawParser,
        text: *const c_char,
        len: usize,
        is_partial: bool,
    ) -> *mut c_char;
    fn hearth_chat_free_text(text: *mut c_char);
}

/// Copies and frees a text from the shim; `None` where the shim had no memory for it.
#[allow(unsafe_code)]
fn take(text: *mut c_char) -> Option<String> {
    let text = NonNull::new(text)?;
    // SAFETY: the shim returns a zero-terminated text, which we own until it is freed.
    let copy = unsafe { CStr::from_ptr(text.as_ptr()) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: it comes from the shim and is not used any more.
    unsafe { hearth_chat_free_text(text.as_ptr()) };
    Some(copy)
}

/// A compiled template.
#[derive(Debug)]
pub(crate) struct ChatHandle {
    raw: NonNull<RawChat>,
    _owned: PhantomData<RawChat>,
}

// SAFETY: it points to memory that nothing else refers to, and the shim keeps nothing in
// the thread that made it.
#[allow(unsafe_code)]
unsafe impl Send for ChatHandle {}

impl ChatHandle {
    /// The handle, if there is one, and the shim's reply.
    #[allow(unsafe_code)]
    pub(crate) fn new(source: &str, bos: &str, eos: &str) -> (Option<Self>, Option<String>) {
        let mut raw = ptr::null_mut();
        // SAFETY: pointers and lengths are those of the texts; `raw` lives for the call.
        let answer = unsafe {
            hearth_chat_new(
                source.as_ptr().cast(),
                source.len(),
                bos.as_ptr().cast(),
                bos.len(),
                eos.as_ptr().cast(),
                eos.len(),
                &raw mut raw,
            )
        };
        let handle = NonNull::new(raw).map(|raw| Self {
            raw,
            _owned: PhantomData,
        });
        (handle, take(answer))
    }

    #[allow(unsafe_code)]
    pub(crate) fn render(&self, request: &str) -> Option<String> {
        // SAFETY: the handle is live, pointer and length are those of the text.
        take(unsafe {
            hearth_chat_render(self.raw.as_ptr(), request.as_ptr().cast(), request.len())
        })
    }
}

impl Drop for ChatHandle {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: it comes from the shim and is freed once.
        unsafe { hearth_chat_free(self.raw.as_ptr()) };
    }
}

/// A parser of one answer.
#[derive(Debug)]
pub(crate) struct ParserHandle {
    raw: NonNull<RawParser>,
    _owned: PhantomData<RawParser>,
}

// SAFETY: as for `ChatHandle`.
#[allow(unsafe_code)]
unsafe impl Send for ParserHandle {}

impl ParserHandle {
    /// The handle, if there is one, and the shim's reply.
    #[allow(unsafe_code)]
    pub(crate) fn new(params: &str) -> (Option<Self>, Option<String>) {
        let mut raw = ptr::null_mut();
        // SAFETY: pointer and length are those of the text; `raw` lives for the call.
        let answer =
            unsafe { hearth_chat_parser_new(params.as_ptr().cast(), params.len(), &raw mut raw) };
        let handle = NonNull::new(raw).map(|raw| Self {
            raw,
            _owned: PhantomData,
        });
        (handle, take(answer))
    }

    #[allow(unsafe_code)]
    pub(crate) fn parse(&self, text: &str, is_partial: bool) -> Option<String> {
        // SAFETY: the handle is live, pointer and length are those of the text.
        take(unsafe {
            hearth_chat_parse(
                self.raw.as_ptr(),
                text.as_ptr().cast(),
                text.len(),
                is_partial,
            )
        })
    }
}

impl Drop for ParserHandle {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: it comes from the shim and is freed once.
        unsafe { hearth_chat_parser_free(self.raw.as_ptr()) };
    }
}
