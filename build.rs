//! Gathers llama.cpp's shared libraries and the CPU kernels beside the
//! executables, and tells hearth-engine where to find them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

/// llama.cpp itself; of `libllama-common` the chat layer is in a library of ours.
const LIBRARIES: [&str; 3] = ["libllama.so.0", "libggml.so.0", "libggml-base.so.0"];

/// The variant with AMX is left out: its tile configuration is set once per thread,
/// and in virtual machines whose host loses that state it dies of an illegal
/// instruction (seen: SIGILL at `tilezero` on a Firecracker guest). The next best
/// variant serves these server processors.
const LEFT_OUT: [&str; 1] = ["libggml-cpu-sapphirerapids.so"];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_ENGINE").is_none() {
        return Ok(());
    }
    // Only the engine links llama.cpp: the linker drops libraries that the other
    // executables do not use. The first path is a build tree, the second a package
    // (/usr/libexec/hearthd/hearth-engine, /usr/lib/hearthd).
    for rpath in ["$ORIGIN/hearth-lib", "$ORIGIN/../../lib/hearthd"] {
        println!("cargo:rustc-link-arg-bin=hearth-engine=-Wl,--disable-new-dtags,-rpath,{rpath}");
    }
    link_with_lld();
    // Tests and benchmarks keep llama.cpp's symbols out, and `cargo test` sets
    // LD_LIBRARY_PATH for the unit tests; neither needs a path.

    let var = |name: &str| env::var_os(name).map(PathBuf::from);
    let (Some(root), Some(kernels), Some(chat), Some(out)) = (
        var("DEP_LLAMA_ROOT"),
        var("DEP_LLAMA_BACKENDS_DIR"),
        var("DEP_HEARTH_CHAT_LIBRARY"),
        var("OUT_DIR"),
    ) else {
        return Err(io::Error::other(
            "llama-cpp-sys-2 did not say where its libraries are",
        ));
    };
    // OUT_DIR is target/<profile>/build/hearthd-<hash>/out.
    let Some(profile) = out.ancestors().nth(3) else {
        return Err(io::Error::other("OUT_DIR is not inside a target directory"));
    };
    let mut files = wanted(&root, &kernels)?;
    if let Some(name) = chat.file_name() {
        files.insert(name.to_owned(), chat.clone());
    }
    gather(&files, &profile.join("hearth-lib"))
}

/// GNU's linker chooses libraries before it drops unused code, and would have all
/// executables need llama.cpp. LLVM's, which comes with the compiler, does not; on x86-64
/// rustc takes it by itself.
fn link_with_lld() {
    let is_arm = env::var_os("CARGO_CFG_TARGET_ARCH").is_some_and(|arch| arch == "aarch64");
    let (true, Some(rustc), Ok(host)) = (is_arm, env::var_os("RUSTC"), env::var("HOST")) else {
        return;
    };
    let output = process::Command::new(rustc)
        .args(["--print", "sysroot"])
        .output();
    let sysroot = output.map_or_else(
        |_| String::new(),
        |o| String::from_utf8_lossy(&o.stdout).into_owned(),
    );
    let folder = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(host)
        .join("bin/gcc-ld");
    if folder.join("ld.lld").exists() {
        println!("cargo:rustc-link-arg-bins=-B{}", folder.display());
        println!("cargo:rustc-link-arg-bins=-fuse-ld=lld");
    }
}

/// The files to gather, by name.
fn wanted(root: &Path, kernels: &Path) -> io::Result<BTreeMap<OsString, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(kernels)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("libggml-cpu") && text.ends_with(".so") && !LEFT_OUT.contains(&&*text) {
            files.insert(name, entry.path());
        }
    }
    for name in LIBRARIES {
        files.insert(name.into(), root.join("lib").join(name));
    }
    Ok(files)
}

/// Makes `folder` hold exactly these files.
fn gather(files: &BTreeMap<OsString, PathBuf>, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !files.contains_key(&entry.file_name()) {
            // Another build may have removed it first.
            _ = fs::remove_file(entry.path());
        }
    }
    for (name, from) in files {
        // Under a temporary name first: a running engine keeps its old file, and two
        // builds at once do not see half of one.
        let temporary = folder.with_extension(format!("{}.new", process::id()));
        fs::copy(from, &temporary)?;
        fs::rename(&temporary, folder.join(name))?;
    }
    Ok(())
}
