//! The decoders of `media/shim.h`, and memory that the shim allocated.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};

use hearth_proto::{SOUND_SECONDS_MAX, SoundFormat};

/// The shortest sound is one of so many in a second.
const SOUNDS_PER_SECOND: u32 = 10;
/// The largest sample: full scale is 1, and some files have integers stored as floats.
const LOUDEST: f32 = 65_536.0;

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
        format: u32,
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
pub(super) fn decode_sound(bytes: &[u8], rate: u32) -> Result<Data<f32>, String> {
    let format = SoundFormat::of(bytes).map_err(|failure| format!("it {}", failure.message))?;
    let most = rate as usize * SOUND_SECONDS_MAX as usize;
    let (mut out, mut n) = (ptr::null_mut(), 0);
    // SAFETY: as in `decode_picture`.
    check(unsafe {
        hearth_sound_decode(
            bytes.as_ptr(),
            bytes.len(),
            number(format),
            rate,
            most,
            &raw mut out,
            &raw mut n,
        )
    })?;
    let samples = Data::new(out, n)?;
    check_samples(samples.as_slice(), rate).map(|()| samples)
}

/// The decoder's number of a format (media/shim.h).
fn number(format: SoundFormat) -> u32 {
    match format {
        SoundFormat::Wav => 1,
        SoundFormat::Flac => 2,
        SoundFormat::Mp3 => 3,
    }
}

/// Refuses what cannot be encoded: llama.cpp aborts the process where there are too few
/// samples, and samples that are no numbers would be in everything that is computed of them.
fn check_samples(samples: &[f32], rate: u32) -> Result<(), String> {
    let least = (rate / SOUNDS_PER_SECOND).max(1) as usize;
    if samples.len() > rate as usize * SOUND_SECONDS_MAX as usize {
        return Err(format!(
            "it is longer than {SOUND_SECONDS_MAX} seconds: send a part of it"
        ));
    }
    if samples.len() < least {
        return Err(format!(
            "it has {} samples at {rate} per second, at least {least} are needed: send a longer one",
            samples.len()
        ));
    }
    // NaN is not within any range.
    if !samples.iter().all(|s| (-LOUDEST..=LOUDEST).contains(s)) {
        return Err("it has samples that are no numbers, or far too large: it is damaged".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_that_cannot_be_encoded_are_refused() {
        let refused = |samples: &[f32]| check_samples(samples, 100).unwrap_err();
        assert!(check_samples(&[0.5; 10], 100).is_ok());
        assert!(refused(&[0.5; 9]).contains("at least 10"));
        assert!(refused(&[]).contains("0 samples"));
        assert!(refused(&vec![0.0; 60_001]).contains("600 seconds"));
        for wrong in [f32::NAN, f32::INFINITY, -1e9] {
            let mut samples = [0.5; 10];
            samples[7] = wrong;
            assert!(refused(&samples).contains("no numbers"));
        }
    }
}
