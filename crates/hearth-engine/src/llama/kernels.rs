//! Finding and loading the CPU kernels (ggml's dynamic backends).

use std::ffi::CStr;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use llama_cpp_2::llama_backend::{LlamaBackend, load_backends_from_path};
use llama_cpp_sys_2 as sys;

use super::variants;

/// The initialized runtime: kernels loaded, log redirected.
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
    /// A file with CPU kernels was cut short; loading it would end the process.
    #[error("{} is damaged: reinstall the package", .0.display())]
    Damaged(PathBuf),
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
            let kernels = kernels(folder);
            if let Some(damaged) = kernels.iter().find(|path| !is_whole(path)) {
                return Err(RuntimeError::Damaged(damaged.clone()));
            }
            if !kernels.is_empty() {
                load_backends_from_path(folder);
                if cpu_registry().is_some() {
                    let backend =
                        LlamaBackend::init().map_err(|e| RuntimeError::Init(e.to_string()))?;
                    let cpu = describe(&kernels);
                    return Ok(Self { backend, cpu });
                }
            }
        }
        Err(RuntimeError::NoKernels(folders))
    }

    /// The kernels in use and why not better ones, e.g. `haswell (AVX2, FMA, F16C), the
    /// best of 13 for this processor; alderlake needs AVX_VNNI`.
    pub fn cpu(&self) -> &str {
        &self.cpu
    }
}

/// Where to look for kernels: a build tree, then an installed package.
fn folders() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("HEARTH_BACKEND_DIR") {
        return vec![folder.into()];
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let dir = exe.parent().unwrap_or(Path::new("."));
    vec![
        dir.join("hearth-lib"),
        // Test executables are in target/<profile>/deps.
        dir.join("../hearth-lib"),
        dir.join("../../lib/hearthd"),
        dir.join("../lib/hearthd"),
    ]
}

/// The files with CPU kernels.
fn kernels(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_name().as_encoded_bytes().starts_with(b"libggml-cpu"))
        .map(|e| e.path())
        .collect()
}

/// Whether the file is as long as its header says. The loader also maps what is missing,
/// and access to that raises SIGBUS. The section headers, at `e_shoff`, come last in
/// files that linkers write (elf(5), 64 bits).
fn is_whole(path: &Path) -> bool {
    let mut header = [0; 64];
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    let Ok(length) = file.metadata().map(|m| m.len()) else {
        return false;
    };
    if file.read_exact(&mut header).is_err() || !header.starts_with(b"\x7fELF") {
        return false;
    }
    let [.., o0, o1, o2, o3, o4, o5, o6, o7] = header[..48] else {
        return false;
    };
    let sections = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
    let size = u16::from_le_bytes([header[58], header[59]]);
    let count = u16::from_le_bytes([header[60], header[61]]);
    let end = sections.checked_add(u64::from(size) * u64::from(count));
    end.is_some_and(|end| end <= length)
}

/// The registered CPU backend.
pub(super) fn cpu_registry() -> Option<sys::ggml_backend_reg_t> {
    // SAFETY: a static NUL-terminated name; the call only searches a list.
    let registry = unsafe { sys::ggml_backend_reg_by_name(c"CPU".as_ptr()) };
    (!registry.is_null()).then_some(registry)
}

/// The address of a function that the loaded CPU backend provides by name.
pub(super) fn cpu_function(name: &CStr) -> Option<std::ptr::NonNull<std::ffi::c_void>> {
    let registry = cpu_registry()?;
    // SAFETY: the registry is valid for the process's life, the name is a string.
    std::ptr::NonNull::new(unsafe {
        sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr())
    })
}

fn describe(kernels: &[PathBuf]) -> String {
    let variant = loaded_variant().unwrap_or_else(|| "cpu".to_owned());
    let features = match features() {
        none if none.is_empty() => String::new(),
        features => format!(" ({})", features.join(", ")),
    };
    let shipped: Vec<String> = kernels.iter().filter_map(|path| variant_of(path)).collect();
    let why = variants::why(&variant, &shipped).map(|why| format!(", {why}"));
    format!("{variant}{features}{}", why.unwrap_or_default())
}

/// Which `libggml-cpu-<variant>.so` is mapped.
fn loaded_variant() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .find_map(|line| variant_of(Path::new(line.split('/').next_back()?)))
}

/// The variant by the name of its file.
fn variant_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let variant = name.strip_prefix("libggml-cpu-")?.strip_suffix(".so")?;
    Some(variant.to_owned())
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

/// The files with CPU kernels of this build (the variant for this machine), or those in
/// `HEARTH_BACKEND_DIR` (`make test-kernels`: the package's).
#[cfg(test)]
pub(super) fn files() -> Vec<PathBuf> {
    let found = folders().into_iter().map(|folder| kernels(&folder));
    let mut found = found.filter(|files| !files.is_empty());
    found.next().unwrap()
}

/// These files with the names of their variants.
#[cfg(test)]
pub(super) fn shipped() -> Vec<(String, PathBuf)> {
    let named = |path: PathBuf| Some((variant_of(&path)?, path));
    files().into_iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_library_is_detected() {
        let whole = files();
        let folder = tempfile::tempdir().unwrap();
        let cut = folder.path().join("libggml-cpu-x.so");
        for path in &whole {
            assert!(is_whole(path), "{path:?}");
            let bytes = std::fs::read(path).unwrap();
            for length in [0, 3, 63, 64, 5000, bytes.len() / 2, bytes.len() - 1] {
                std::fs::write(&cut, &bytes[..length]).unwrap();
                assert!(!is_whole(&cut), "{path:?}, {length} bytes of it");
            }
        }
        assert_eq!(kernels(folder.path()), [cut]);
    }
}
