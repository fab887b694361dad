//! Gathers llama.cpp's shared libraries and the CPU kernels beside the
//! executables, and tells hearth-engine where to find them.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    // Only the engine links llama.cpp: the linker drops libraries that the other
    // executables do not use. The first path is a build tree, the second a package.
    for rpath in ["$ORIGIN/hearth-lib", "$ORIGIN/../../lib/hearthd"] {
        println!("cargo:rustc-link-arg-bin=hearth-engine=-Wl,--disable-new-dtags,-rpath,{rpath}");
    }
    // Unit tests and benchmarks lie in target/<profile>/deps.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../hearth-lib");

    let var = |name: &str| env::var_os(name).map(PathBuf::from);
    let (Some(root), Some(kernels), Some(out)) =
        (var("DEP_LLAMA_ROOT"), var("DEP_LLAMA_BACKENDS_DIR"), var("OUT_DIR"))
    else {
        return Err(io::Error::other("llama-cpp-sys-2 did not say where its libraries are"));
    };
    // OUT_DIR is target/<profile>/build/hearthd-<hash>/out.
    let Some(profile) = out.ancestors().nth(3) else {
        return Err(io::Error::other("OUT_DIR is not inside a target directory"));
    };
    let target = profile.join("hearth-lib");
    fs::create_dir_all(&target)?;
    for entry in fs::read_dir(&kernels)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "so") {
            place(&path, &target.join(entry.file_name()))?;
        }
    }
    for name in ["libllama.so.0", "libggml.so.0", "libggml-base.so.0"] {
        place(&root.join("lib").join(name), &target.join(name))?;
    }
    Ok(())
}

/// Copies under a temporary name first: a running engine keeps its old file.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    let temporary = to.with_extension("new");
    fs::copy(from, &temporary)?;
    fs::rename(&temporary, to)
}
