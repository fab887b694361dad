//! The engine process, and the tools that need llama.cpp.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use hearthd::engine::backend::{Loader as _, Progress};
use hearthd::engine::fake::FakeLoader;
use hearthd::engine::gguf::ElementType;
use hearthd::engine::llama::{LlamaLoader, Runtime};
use hearthd::engine::make_model::{Shape, make};
use hearthd::engine::{Backend as _, exit_code, init_log, run};
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
    /// Write a model with random weights: right size and speed, no sense.
    MakeModel {
        /// demo, 0.5b, or layers,width,ff,heads,kv_heads,vocab.
        #[arg(long)]
        shape: Shape,
        /// How the weights are stored.
        #[arg(long = "type", value_enum, default_value = "q8_0")]
        element: Element,
        /// The file to write.
        #[arg(long)]
        out: PathBuf,
        /// The same seed gives the same file.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Names of element types on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum Element {
    #[value(name = "f32")]
    F32,
    #[value(name = "f16")]
    F16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
}

impl From<Element> for ElementType {
    fn from(element: Element) -> Self {
        match element {
            Element::F32 => Self::F32,
            Element::F16 => Self::F16,
            Element::Q8_0 => Self::Q8_0,
            Element::Q4_0 => Self::Q4_0,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    init_log();
    let loader = || Runtime::start().map(LlamaLoader::new).map_err(|e| e.to_string());
    match args.tool {
        None if args.fake => exit_code(run(|| Ok(FakeLoader))),
        None => exit_code(run(loader)),
        Some(Tool::Check { file }) => check(file, loader()),
        Some(Tool::MakeModel { shape, element, out, seed }) => {
            exit_code(make(&out, shape, element.into(), seed))
        }
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
