//! The engine process, and the tools that need llama.cpp.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use hearthd::engine::backend::{Loader as _, Progress};
use hearthd::engine::fake::FakeLoader;
use hearthd::engine::llama::{LlamaLoader, Runtime};
use hearthd::engine::{Backend as _, exit_code, run};
use hearthd::logging;
use hearthd::protocol::{KvType, Limits, LoadRequest, Sampling};

/// The inference engine of Hearthd. hearthd starts it; by hand it offers tools.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Serve a fake model that repeats its prompt (for tests of the daemon).
    #[arg(long, hide = true)]
    fake: bool,
    #[command(subcommand)]
    tool: Option<Tool>,
}

#[derive(Subcommand)]
enum Tool {
    /// Load a model file completely and say whether it is usable; one line of JSON.
    Check {
        /// The GGUF file.
        file: PathBuf,
    },
    /// Show which CPU kernels are in use.
    Cpu,
}

fn main() -> ExitCode {
    let args = Args::parse();
    logging::init("hearth-engine");
    let loader = || Runtime::start().map(LlamaLoader::new).map_err(|e| e.to_string());
    match args.tool {
        None if args.fake => exit_code(run(|| Ok(FakeLoader))),
        None => exit_code(run(loader)),
        Some(Tool::Check { file }) => check(file, loader()),
        Some(Tool::Cpu) => match Runtime::start() {
            Ok(runtime) => {
                println!("{}", runtime.cpu());
                ExitCode::SUCCESS
            }
            Err(error) => {
                log::error!("{error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn check(file: PathBuf, loader: Result<LlamaLoader, String>) -> ExitCode {
    let request = LoadRequest {
        path: file,
        context_size: 64,
        context_max: 64,
        kv_type: KvType::F16,
        threads_max: 1,
        limits: Limits::default(),
        sampling: Sampling::default(),
    };
    let progress = Arc::new(Progress::default());
    let loaded = loader
        .map_err(|e| hearthd::protocol::Failure::new(hearthd::protocol::FailureKind::Internal, e))
        .and_then(|loader| loader.load(&request, &progress, Box::new(|_| ())));
    // A model that loads but cannot decode one token is no model.
    let checked = loaded.and_then(|mut backend| match backend.decode(&[0], 0) {
        Ok(()) => Ok(backend.info().clone()),
        Err(error) => Err(hearthd::protocol::Failure::new(
            hearthd::protocol::FailureKind::ModelInvalid,
            format!("the model loads but does not run: {error}"),
        )),
    });
    let (line, code) = match checked {
        Ok(info) => (serde_json::json!({"ok": true, "info": info}), ExitCode::SUCCESS),
        Err(failure) => (serde_json::json!({"ok": false, "failure": failure}), ExitCode::FAILURE),
    };
    println!("{line}");
    code
}
