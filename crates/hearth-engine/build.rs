//! Compiles llama.cpp's chat layer and the C interface to it into a static library.
//!
//! Of `common/` only the sources that render templates and parse answers are taken: no
//! downloader, no HTTP, no TLS.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// In `common/`, without their ending; `jinja/` and `parsers/` come whole.
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
const FOLDERS: [&str; 2] = ["jinja", "parsers"];
const LIBRARY: &str = "libhearth-chat.so";
/// The functions of chat/shim.h.
const ENTRIES: [&str; 7] = [
    "hearth_chat_new",
    "hearth_chat_free",
    "hearth_chat_render",
    "hearth_chat_parser_new",
    "hearth_chat_parser_free",
    "hearth_chat_parse",
    "hearth_chat_free_text",
];

fn main() -> io::Result<()> {
    for path in ["build.rs", "chat"] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=CMAKE_CXX_COMPILER_LAUNCHER");
    let missing = || io::Error::other("llama-cpp-sys-2 did not say where its libraries are");
    let root = env::var_os("DEP_LLAMA_ROOT")
        .map(PathBuf::from)
        .ok_or_else(missing)?;
    let llama = llama_cpp(&root)?;
    let common = llama.join("common");
    let mut sources: Vec<PathBuf> = SOURCES
        .iter()
        .map(|name| common.join(name).with_extension("cpp"))
        .collect();
    for folder in FOLDERS {
        for entry in fs::read_dir(common.join(folder))? {
            let path = entry?.path();
            if path.extension() == Some(OsStr::new("cpp")) {
                sources.push(path);
            }
        }
    }
    sources.sort();
    sources.push("chat/shim.cpp".into());

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .pic(true)
        // An answer is parsed again with each token, in every build profile.
        .opt_level(2)
        .warnings(false)
        .cargo_metadata(false)
        .flag("-fvisibility=hidden")
        .flag("-ffunction-sections")
        .flag("-fdata-sections")
        .flag("-include")
        .flag("chat/clock.h")
        .include(&common)
        .include(llama.join("include"))
        .include(llama.join("ggml/include"))
        .include(llama.join("vendor"))
        .files(sources);
    let linker = build.try_get_compiler().map_err(io::Error::other)?;
    if let Some(launcher) = env::var_os("CMAKE_CXX_COMPILER_LAUNCHER") {
        build.compiler(launched(&launcher, linker.path())?);
    }
    build.try_compile("hearth_chat").map_err(io::Error::other)?;
    link(&mut linker.to_command(), &root.join("lib"))?;
    println!("cargo:sources={}", llama.display());
    Ok(())
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

/// A shared library, so that of the executables only the engine has C++ in it: the linker
/// leaves out a library that nothing refers to, but keeps the constructors of an archive.
fn link(linker: &mut Command, llama: &Path) -> io::Result<()> {
    let out = out_dir();
    let name = format!("{LIBRARY}.0");
    let mut search = OsString::from("-L");
    search.push(llama);
    let status = linker
        .args(["-shared", "-Wl,--gc-sections", "-Wl,--no-undefined", "-o"])
        .arg(out.join(&name))
        .arg(format!("-Wl,-soname,{name}"))
        // The interface is what has to stay; all else only as far as it is used.
        .args(ENTRIES.map(|entry| format!("-Wl,-u,{entry}")))
        .arg(out.join("libhearth_chat.a"))
        .arg(search)
        .args(["-lllama", "-lggml", "-lggml-base"])
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("cannot link {name}: {status}")));
    }
    let link = out.join(LIBRARY);
    _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&name, link)?;
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=dylib=hearth-chat");
    println!("cargo:library={}", out.join(name).display());
    Ok(())
}

/// Where the llama.cpp lies that llama-cpp-sys-2 has built: its build folder remembers.
fn llama_cpp(root: &Path) -> io::Result<PathBuf> {
    let cache = root.join("build/CMakeCache.txt");
    let text = fs::read_to_string(&cache)?;
    text.lines()
        .find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="))
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("{} names no source folder", cache.display())))
}
