//! Safe wrappers around the C interface of `media/shim.h`.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::media_data::check;
use super::raw::raw;
use crate::backend::Progress;

#[repr(C)]
struct RawMedia {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawChunks {
    _opaque: [u8; 0],
}

/// What a projector can do (`hearth_media_facts`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) vision: bool,
    pub(super) audio: bool,
    pub(super) sample_rate: u32,
    pub(super) width: u32,
    pub(super) whole_tokens: u32,
}

#[repr(C)]
struct RawMedium {
    is_sound: bool,
    width: u32,
    height: u32,
    pixels: *const u8,
    samples: *const f32,
    n_samples: usize,
}

#[repr(C)]
struct RawChunk {
    is_text: bool,
    is_sound: bool,
    is_whole: bool,
    tokens: *const i32,
    n_tokens: u32,
    n_positions: u32,
    has_grid: bool,
}

type GoOn = unsafe extern "C" fn(*mut c_void) -> bool;

// SAFETY: the declarations are those of media/shim.h and of tools/mtmd/mtmd.h.
unsafe extern "C" {
    fn hearth_media_new(
        path: *const c_char,
        model: *const sys::llama_model,
        marker: *const c_char,
        threads: i32,
        go_on: GoOn,
        data: *mut c_void,
        out: *mut *mut RawMedia,
    ) -> *mut c_char;
    fn hearth_media_free(media: *mut RawMedia);
    fn hearth_media_about(media: *const RawMedia, out: *mut Facts);
    fn hearth_media_set_threads(media: *mut RawMedia, threads: i32);
    fn hearth_media_layout(
        media: *const RawMedia,
        text: *const c_char,
        len: usize,
        add_special: bool,
        list: *const RawMedium,
        n: usize,
        out: *mut *mut RawChunks,
    ) -> *mut c_char;
    fn hearth_media_chunks_free(chunks: *mut RawChunks);
    fn hearth_media_chunks_len(chunks: *const RawChunks) -> usize;
    fn hearth_media_chunk_at(
        media: *const RawMedia,
        chunks: *const RawChunks,
        at: usize,
        out: *mut RawChunk,
    );
    fn hearth_media_positions(chunks: *const RawChunks, at: usize, first: i32, out: *mut i32);
    fn hearth_media_encode(
        media: *mut RawMedia,
        chunks: *const RawChunks,
        at: usize,
        out: *mut *const f32,
        n: *mut usize,
    ) -> *mut c_char;
    fn mtmd_log_set(callback: sys::ggml_log_callback, data: *mut c_void);
}

/// Passes the library's log lines to llama.cpp's receiver.
pub(super) fn log_to(receive: sys::ggml_log_callback) {
    // SAFETY: `receive` is a plain function that takes no user data.
    unsafe { mtmd_log_set(receive, ptr::null_mut()) };
}

/// A picture or sound as the library takes it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    /// Its size, and its pixels where it is to be encoded.
    Picture(u32, u32, Option<&'a [u8]>),
    Sound(&'a [f32]),
}

impl Input<'_> {
    fn raw(&self) -> RawMedium {
        let nothing = RawMedium {
            is_sound: false,
            width: 0,
            height: 0,
            pixels: ptr::null(),
            samples: ptr::null(),
            n_samples: 0,
        };
        match *self {
            Self::Picture(width, height, pixels) => RawMedium {
                width,
                height,
                // The library reads so many bytes.
                pixels: pixels
                    .filter(|pixels| pixels.len() == width as usize * height as usize * 3)
                    .map_or(ptr::null(), <[u8]>::as_ptr),
                ..nothing
            },
            Self::Sound(samples) => RawMedium {
                is_sound: true,
                samples: samples.as_ptr(),
                n_samples: samples.len(),
                ..nothing
            },
        }
    }
}

/// One part of a prompt.
#[derive(Clone, Debug)]
pub(super) enum Chunk {
    Text(Vec<i32>),
    /// A picture or sound, or a part of one.
    Media {
        tokens: u32,
        positions: u32,
        is_whole: bool,
        has_grid: bool,
    },
}

/// The parts of a prompt.
#[derive(Debug)]
pub(super) struct Chunks(NonNull<RawChunks>);

impl Drop for Chunks {
    fn drop(&mut self) {
        // SAFETY: it comes from the shim and is freed once.
        unsafe { hearth_media_chunks_free(self.0.as_ptr()) };
    }
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        // SAFETY: the chunks are live.
        unsafe { hearth_media_chunks_len(self.0.as_ptr()) }
    }

    /// The four positions of each token of chunk `at` with `tokens` tokens, which begins at
    /// `first`: all first ones, all second ones, and so on.
    pub(super) fn positions(&self, at: usize, first: u32, tokens: u32) -> Vec<i32> {
        let mut out = vec![0; tokens as usize * 4];
        if at < self.len() {
            // SAFETY: the chunk exists, and `out` has four numbers for each of its tokens.
            unsafe {
                hearth_media_positions(self.0.as_ptr(), at, first.cast_signed(), out.as_mut_ptr());
            }
        }
        out
    }
}

/// A loaded projector.
#[derive(Debug)]
pub(super) struct Projector {
    media: NonNull<RawMedia>,
    /// Read by the callback; kept alive as long as the projector.
    _progress: Arc<Progress>,
}

/// Called by ggml between the operations of a graph.
unsafe extern "C" fn go_on(progress: *mut c_void) -> bool {
    // SAFETY: the projector keeps the `Arc<Progress>` alive.
    let progress = unsafe { &*progress.cast::<Progress>() };
    progress.tick();
    !progress.is_abort()
}

impl Projector {
    /// Loads a projector for a model, or without one to see whether it can be loaded.
    pub(super) fn load(
        path: &Path,
        model: Option<&LlamaModel>,
        marker: &str,
        threads: u32,
        progress: &Arc<Progress>,
    ) -> Result<Self, String> {
        use std::os::unix::ffi::OsStrExt as _;
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        let marker = CString::new(marker).map_err(|e| e.to_string())?;
        let mut out = ptr::null_mut();
        // SAFETY: the texts live for the call; the model, if there is one, is valid and
        // outlives the projector (see the owner), as does the progress.
        check(unsafe {
            hearth_media_new(
                path.as_ptr(),
                model.map_or(ptr::null(), |model| raw(model).cast_const()),
                marker.as_ptr(),
                threads.cast_signed(),
                go_on,
                Arc::as_ptr(progress).cast_mut().cast(),
                &raw mut out,
            )
        })?;
        Ok(Self {
            media: NonNull::new(out).ok_or("it was not loaded")?,
            _progress: Arc::clone(progress),
        })
    }

    pub(super) fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        // SAFETY: the projector is live; `facts` lives for the call.
        unsafe { hearth_media_about(self.media.as_ptr(), &raw mut facts) };
        facts
    }

    pub(super) fn set_threads(&mut self, threads: u32) {
        // SAFETY: the projector is live; a plain store that the next encoding reads.
        unsafe { hearth_media_set_threads(self.media.as_ptr(), threads.cast_signed()) };
    }

    /// Splits a text, which has one marker for each input.
    pub(super) fn layout(
        &self,
        text: &str,
        add_special: bool,
        inputs: &[Input<'_>],
    ) -> Result<Chunks, String> {
        let list: Vec<RawMedium> = inputs.iter().map(Input::raw).collect();
        let mut out = ptr::null_mut();
        // SAFETY: pointers and lengths are those of text and list; what the list points to
        // lives for the call.
        check(unsafe {
            hearth_media_layout(
                self.media.as_ptr(),
                text.as_ptr().cast(),
                text.len(),
                add_special,
                list.as_ptr(),
                list.len(),
                &raw mut out,
            )
        })?;
        NonNull::new(out)
            .map(Chunks)
            .ok_or_else(|| "it has no parts".into())
    }

    /// Chunk `at` of a prompt.
    pub(super) fn chunk(&self, chunks: &Chunks, at: usize) -> Option<Chunk> {
        if at >= chunks.len() {
            return None;
        }
        let mut raw = RawChunk {
            is_text: false,
            is_sound: false,
            is_whole: false,
            tokens: ptr::null(),
            n_tokens: 0,
            n_positions: 0,
            has_grid: false,
        };
        // SAFETY: the chunk exists; `raw` lives for the call.
        unsafe {
            hearth_media_chunk_at(self.media.as_ptr(), chunks.0.as_ptr(), at, &raw mut raw);
        }
        if !raw.is_text {
            return Some(Chunk::Media {
                tokens: raw.n_tokens,
                positions: raw.n_positions,
                is_whole: raw.is_whole,
                has_grid: raw.has_grid,
            });
        }
        if raw.tokens.is_null() {
            return Some(Chunk::Text(Vec::new()));
        }
        // SAFETY: a chunk of text has so many tokens there, as long as the chunks live.
        let tokens = unsafe { std::slice::from_raw_parts(raw.tokens, raw.n_tokens as usize) };
        Some(Chunk::Text(tokens.to_vec()))
    }

    /// The embeddings of chunk `at`.
    pub(super) fn encode(&mut self, chunks: &Chunks, at: usize) -> Result<Vec<f32>, String> {
        if at >= chunks.len() {
            return Err("it has no such part".into());
        }
        let (mut out, mut n) = (ptr::null(), 0);
        // SAFETY: the chunk exists; both outputs live for the call.
        check(unsafe {
            hearth_media_encode(
                self.media.as_ptr(),
                chunks.0.as_ptr(),
                at,
                &raw mut out,
                &raw mut n,
            )
        })?;
        if out.is_null() {
            return Err("it has no embedding".into());
        }
        // SAFETY: so many floats are there until the next call.
        Ok(unsafe { std::slice::from_raw_parts(out, n) }.to_vec())
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        // SAFETY: it comes from the shim and is freed once.
        unsafe { hearth_media_free(self.media.as_ptr()) };
    }
}
