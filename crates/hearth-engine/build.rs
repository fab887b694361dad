//! Compiles llama.cpp's chat layer and its multimodal library, each with its C interface,
//! copies llama.cpp's shared libraries and the CPU kernels next to the executable, and sets
//! the executable's rpath.
//!
//! Only the sources of `common/` that render templates and parse answers are compiled: no
//! downloader, no HTTP, no TLS. Of `tools/mtmd` the library, without its helpers, which call
//! ffmpeg.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::{env, fs, io};

/// In `common/`, without their extension; `jinja/` is compiled completely, and
/// `parsers/` by chat/parsers.cpp.
const SOURCES: [&str; 14] = [
    "chat",
    "chat-auto-parser-generator",
    "chat-auto-parser-helpers",
    "chat-diff-analyzer",
    "chat-peg-parser",
    "common",
    "json",
    "json-schema",
    "json-schema-to-grammar",
    "log",
    "peg-parser",
    "reasoning-budget",
    "trie",
    "unicode",
];
/// The multimodal library and what belongs to it; `tools/mtmd/mtmd.cpp` is a part of
/// media/shim.cpp. Those that build graphs do not compute: optimizing them takes longer than
/// all of the others.
const MEDIA: [&str; 5] = [
    "tools/mtmd/mtmd-audio.cpp",
    "tools/mtmd/mtmd-image.cpp",
    "media/pictures.cpp",
    "media/shim.cpp",
    "media/sound.cpp",
];
const MEDIA_GRAPHS: [&str; 2] = ["tools/mtmd/clip.cpp", "media/graphs.cpp"];
/// llama.cpp itself.
const LIBRARIES: [&str; 3] = ["libllama.so.0", "libggml.so.0", "libggml-base.so.0"];

/// In the profile's folder, a link to the folder where llama-cpp-sys-2 built llama.cpp:
/// packaging/build-deb.sh compiles the package's other CPU kernels there.
const LLAMA: &str = "hearth-llama";

fn main() -> io::Result<()> {
    for path in ["build.rs", "chat", "media"] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=CMAKE_CXX_COMPILER_LAUNCHER");
    // The first path is a build tree, the second a package
    // (/usr/libexec/hearthd/hearth-engine, /usr/lib/hearthd). Tests and benchmarks need
    // none: Cargo sets LD_LIBRARY_PATH for them.
    for rpath in ["$ORIGIN/hearth-lib", "$ORIGIN/../../lib/hearthd"] {
        println!("cargo:rustc-link-arg-bin=hearth-engine=-Wl,--disable-new-dtags,-rpath,{rpath}");
    }
    let missing = || io::Error::other("llama-cpp-sys-2 did not say where its libraries are");
    let var = |name: &str| env::var_os(name).map(PathBuf::from).ok_or_else(missing);
    let root = var("DEP_LLAMA_ROOT")?;
    let kernels = var("DEP_LLAMA_BACKENDS_DIR")?;
    let llama = llama_cpp(&root)?;
    let common = llama.join("common");

    compiler(&llama)?
        // An answer is parsed again after each token: optimize in every build profile.
        .opt_level(2)
        .flag("-include")
        .flag("chat/clock.h")
        .include(&common)
        .files(sources(&common)?)
        .try_compile("hearth_chat")
        .map_err(io::Error::other)?;
    let media = |files: &[&str], level| {
        let file = |file: &&str| match file.strip_prefix("tools/") {
            Some(_) => llama.join(file),
            None => PathBuf::from(file),
        };
        let mut build = compiler(&llama)?;
        build
            .opt_level(level)
            .include(llama.join("tools/mtmd"))
            .include("media")
            .files(files.iter().map(file));
        io::Result::Ok(build)
    };
    let graphs = media(&MEDIA_GRAPHS, 1)?.try_compile_intermediates();
    media(&MEDIA, 2)?
        .objects(graphs.map_err(io::Error::other)?)
        .try_compile("hearth_media")
        .map_err(io::Error::other)?;

    // OUT_DIR is target/<profile>/build/hearth-engine-<hash>/out.
    let out = out_dir();
    let Some(profile) = out.ancestors().nth(3) else {
        return Err(io::Error::other("OUT_DIR is not inside a target directory"));
    };
    gather(&wanted(&root, &kernels)?, &profile.join("hearth-lib"))?;
    replace_link(&root, &profile.join(LLAMA))
}

/// A build of C++ with llama.cpp's headers.
fn compiler(llama: &Path) -> io::Result<cc::Build> {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .pic(true)
        .warnings(false)
        .flag("-fvisibility=hidden")
        .flag("-ffunction-sections")
        .flag("-fdata-sections")
        .include(llama.join("include"))
        .include(llama.join("ggml/include"))
        .include(llama.join("vendor"));
    if let Some(launcher) = env::var_os("CMAKE_CXX_COMPILER_LAUNCHER") {
        let compiler = build.try_get_compiler().map_err(io::Error::other)?;
        build.compiler(launched(&launcher, compiler.path())?);
    }
    Ok(build)
}

/// The sources of the chat layer and of its C interface.
fn sources(common: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sources: Vec<PathBuf> = SOURCES
        .iter()
        .map(|name| common.join(name).with_extension("cpp"))
        .collect();
    for entry in fs::read_dir(common.join("jinja"))? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("cpp")) {
            sources.push(path);
        }
    }
    sources.sort();
    sources.extend(["chat/parsers.cpp", "chat/shim.cpp"].map(PathBuf::from));
    Ok(sources)
}

/// A compiler that runs through `launcher` (ccache), as llama.cpp's own build does.
fn launched(launcher: &OsStr, compiler: &Path) -> io::Result<PathBuf> {
    let path = out_dir().join("c++");
    let script = format!(
        "#!/bin/sh\nexec '{}' '{}' \"$@\"\n",
        launcher.display(),
        compiler.display()
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default())
}

/// The source folder of the llama.cpp that llama-cpp-sys-2 built, from its
/// `CMakeCache.txt`.
fn llama_cpp(root: &Path) -> io::Result<PathBuf> {
    let cache = root.join("build/CMakeCache.txt");
    let text = fs::read_to_string(&cache)?;
    text.lines()
        .find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="))
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("{} names no source folder", cache.display())))
}

/// The files to gather, by name.
fn wanted(root: &Path, kernels: &Path) -> io::Result<BTreeMap<OsString, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(kernels)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("libggml-cpu") && text.ends_with(".so") {
            files.insert(name, entry.path());
        }
    }
    for name in LIBRARIES {
        files.insert(name.into(), root.join("lib").join(name));
    }
    Ok(files)
}

/// Makes `folder` contain exactly these files.
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
        // Copy to a temporary name first: a running engine keeps its old file, and
        // concurrent builds never see a partial one.
        let temporary = folder.with_extension(format!("{}.new", process::id()));
        fs::copy(from, &temporary)?;
        fs::rename(&temporary, folder.join(name))?;
    }
    Ok(())
}

fn replace_link(to: &Path, link: &Path) -> io::Result<()> {
    let temporary = link.with_extension(format!("{}.new", process::id()));
    std::os::unix::fs::symlink(to, &temporary)?;
    fs::rename(temporary, link)
}
