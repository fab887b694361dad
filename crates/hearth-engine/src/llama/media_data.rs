//! The decoders of `media/shim.h`, and memory that the shim allocated.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};

// SAFETY: the declarations are those of media/shim.h.
unsafe extern "C" {
    fn hearth_picture_decode(
        bytes: *const u8,
        len: usize,
        width: u32,
        height: u32,
        out: *mut *mut u8,
    ) -> *mut c_char;
    fn hearth_sound_decode(
        bytes: *const u8,
        len: usize,
        rate: u32,
        samples_max: usize,
        out: *mut *mut f32,
        n: *mut usize,
    ) -> *mut c_char;
    fn hearth_media_free_data(data: *mut c_void);
}

/// The message of a failed call.
pub(super) fn check(message: *mut c_char) -> Result<(), String> {
    let Some(message) = NonNull::new(message) else {
        return Ok(());
    };
    // SAFETY: the shim returns a zero-terminated text, which we own until it is freed.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: it comes from the shim and is not used any more.
    unsafe { hearth_media_free_data(message.as_ptr().cast()) };
    Err(text)
}

/// Memory that the shim allocated.
#[derive(Debug)]
pub(super) struct Data<T> {
    start: NonNull<T>,
    len: usize,
}

impl<T> Data<T> {
    /// `len` initialized values at `start`, which this owns from here on.
    fn new(start: *mut T, len: usize) -> Result<Self, String> {
        let start = NonNull::new(start).ok_or("it has no data")?;
        Ok(Self { start, len })
    }

    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: the shim initialized so many values there.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Data<T> {
    fn drop(&mut self) {
        // SAFETY: it comes from the shim and is freed once.
        unsafe { hearth_media_free_data(self.start.as_ptr().cast()) };
    }
}

/// Decodes a picture to RGB; the size is that of its header.
pub(super) fn decode_picture(bytes: &[u8], width: u32, height: u32) -> Result<Data<u8>, String> {
    let mut out = ptr::null_mut();
    // SAFETY: pointer and length are those of the bytes; `out` lives for the call.
    check(unsafe {
        hearth_picture_decode(bytes.as_ptr(), bytes.len(), width, height, &raw mut out)
    })?;
    Data::new(out, width as usize * height as usize * 3)
}

/// Decodes a sound to one channel at `rate` samples per second.
pub(super) fn decode_sound(bytes: &[u8], rate: u32, most: usize) -> Result<Data<f32>, String> {
    let (mut out, mut n) = (ptr::null_mut(), 0);
    // SAFETY: as in `decode_picture`.
    check(unsafe {
        hearth_sound_decode(
            bytes.as_ptr(),
            bytes.len(),
            rate,
            most,
            &raw mut out,
            &raw mut n,
        )
    })?;
    Data::new(out, n)
}
