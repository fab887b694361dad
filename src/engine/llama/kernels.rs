//! Finding and loading the CPU kernels (ggml's dynamic backends).

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use llama_cpp_2::llama_backend::{LlamaBackend, load_backends_from_path};
use llama_cpp_sys_2 as sys;

/// The initialized runtime: kernels loaded, log routed.
#[derive(Debug)]
pub struct Runtime {
    pub(super) backend: LlamaBackend,
    cpu: String,
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No CPU backend could be loaded.
    #[error(
        "no CPU kernels found: looked for libggml-cpu-*.so in {}; reinstall the package, or set HEARTH_BACKEND_DIR",
        .0.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoKernels(Vec<PathBuf>),
    /// llama.cpp refused to start.
    #[error("llama.cpp did not start: {0}")]
    Init(String),
}

impl Runtime {
    /// Loads the best CPU kernels for this machine and starts llama.cpp. Once per
    /// process.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn start() -> Result<Self, RuntimeError> {
        super::log::install();
        let folders = folders();
        for folder in &folders {
            if has_kernels(folder) {
                load_backends_from_path(folder);
                if cpu_registry().is_some() {
                    break;
                }
            }
        }
        if cpu_registry().is_none() {
            return Err(RuntimeError::NoKernels(folders));
        }
        let backend = LlamaBackend::init().map_err(|e| RuntimeError::Init(e.to_string()))?;
        Ok(Self {
            backend,
            cpu: describe(),
        })
    }

    /// The kernels in use, e.g. `haswell (AVX2, FMA, F16C)`.
    pub fn cpu(&self) -> &str {
        &self.cpu
    }
}

/// Where kernels may lie: a build tree, then an installed package.
fn folders() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("HEARTH_BACKEND_DIR") {
        return vec![folder.into()];
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let dir = exe.parent().unwrap_or(Path::new("."));
    vec![
        dir.join("hearth-lib"),
        // Test executables lie in target/<profile>/deps.
        dir.join("../hearth-lib"),
        dir.join("../../lib/hearthd"),
        dir.join("../lib/hearthd"),
    ]
}

fn has_kernels(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|e| e.file_name().as_encoded_bytes().starts_with(b"libggml-cpu"))
    })
}

/// The registered CPU backend.
pub(super) fn cpu_registry() -> Option<sys::ggml_backend_reg_t> {
    // SAFETY: a static NUL-terminated name; the call only searches a list.
    let registry = unsafe { sys::ggml_backend_reg_by_name(c"CPU".as_ptr()) };
    (!registry.is_null()).then_some(registry)
}

/// The address of a function that the loaded CPU backend offers by name.
pub(super) fn cpu_function(name: &CStr) -> Option<std::ptr::NonNull<std::ffi::c_void>> {
    let registry = cpu_registry()?;
    // SAFETY: the registry is valid for the process's life, the name is a string.
    std::ptr::NonNull::new(unsafe {
        sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr())
    })
}

fn describe() -> String {
    let variant = loaded_variant().unwrap_or_else(|| "cpu".to_owned());
    let features = features().join(", ");
    if features.is_empty() {
        variant
    } else {
        format!("{variant} ({features})")
    }
}

/// Which `libggml-cpu-<variant>.so` is mapped.
fn loaded_variant() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let at = maps.find("libggml-cpu-")? + "libggml-cpu-".len();
    maps[at..].split(".so").next().map(str::to_owned)
}

fn features() -> Vec<String> {
    let Some(address) = cpu_function(c"ggml_backend_get_features") else {
        return Vec::new();
    };
    let Some(registry) = cpu_registry() else {
        return Vec::new();
    };
    // SAFETY: ggml-backend.h declares ggml_backend_get_features_t with this
    // signature for this name.
    let get: unsafe extern "C" fn(sys::ggml_backend_reg_t) -> *const sys::ggml_backend_feature =
        unsafe { std::mem::transmute(address.as_ptr()) };
    let mut names = Vec::new();
    // SAFETY: the result is a static array that ends with a null name.
    unsafe {
        let mut feature = get(registry);
        while !feature.is_null() && !(*feature).name.is_null() {
            let name = CStr::from_ptr((*feature).name).to_string_lossy();
            let value = CStr::from_ptr((*feature).value).to_string_lossy();
            if value == "1" && name != "LLAMAFILE" && name != "REPACK" {
                names.push(name.into_owned());
            }
            feature = feature.add(1);
        }
    }
    names
}
