//! Our own compute thread pool: it never spins while idle, and the number of threads that
//! take part can change at any time.

use std::ffi::c_void;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::kernels::cpu_function;

type New = unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> sys::ggml_threadpool_t;
type Free = unsafe extern "C" fn(sys::ggml_threadpool_t);

/// A ggml thread pool.
#[derive(Debug)]
pub(super) struct Pool {
    pool: NonNull<sys::ggml_threadpool>,
    free: Free,
    size: u32,
}

impl Pool {
    /// A pool of `size` threads, the caller's included, that spin up to `poll` (0 to 100)
    /// between two graphs; `None` where the backend has no pools or the threads cannot be
    /// created.
    pub(super) fn new(size: u32, poll: u32) -> Option<Self> {
        let new = cpu_function(c"ggml_threadpool_new")?;
        let free = cpu_function(c"ggml_threadpool_free")?;
        // SAFETY: ggml-cpu.h declares both functions with these signatures, and the
        // backend returns their addresses for these names.
        let (new, free): (New, Free) = unsafe {
            (
                std::mem::transmute::<*mut c_void, New>(new.as_ptr()),
                std::mem::transmute::<*mut c_void, Free>(free.as_ptr()),
            )
        };
        let size = size.clamp(1, 512);
        // SAFETY: ggml_threadpool_params_init fills the whole struct; `new` copies it.
        let pool = unsafe {
            let mut params = std::mem::zeroed::<sys::ggml_threadpool_params>();
            sys::ggml_threadpool_params_init(&raw mut params, size.cast_signed());
            // With 0, threads wait on a condition variable between two graphs: a board
            // that sleeps for its duty cycle, or has nothing to do, must not use a core.
            params.poll = poll.min(100);
            new(&raw mut params)
        };
        Some(Self {
            pool: NonNull::new(pool)?,
            free,
            size,
        })
    }

    pub(super) fn as_ptr(&self) -> sys::ggml_threadpool_t {
        self.pool.as_ptr()
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: created by `new` of the same backend, freed once, and the context that
        // used it has been freed: `Context` drops it after freeing itself.
        unsafe { (self.free)(self.pool.as_ptr()) };
    }
}
