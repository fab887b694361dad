//! The engine process, and the tools that need llama.cpp.

use std::env;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use hearth_engine::llama::{LlamaLoader, Runtime};
use hearth_engine::{exit_code, offline, run, tools, try_template};
use hearth_gguf::read_header;
use hearth_gguf::synthetic::{
    AdapterShape, Family, ProjectorShape, Shape, Storage, make, make_adapter, make_family,
    make_projector,
};
use hearth_proto::{
    BenchJob, Event, Failure, FailureKind, GenerateRequest, Message, Prompt, RequestId, Sampling,
};

/// The inference engine of Hearthd.
///
/// Without a subcommand it serves hearthd, which starts it with a socket as standard
/// input. The subcommands are for people. Exit codes: 0 done, 1 failed, 2 wrong usage.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    tool: Option<Tool>,
}

#[derive(Subcommand)]
enum Tool {
    /// Load a model file completely and say whether it is usable, in one line of JSON.
    Check {
        /// The GGUF file: a model, or an adapter.
        file: PathBuf,
        /// A model with which an adapter is tried.
        #[arg(long)]
        base: Option<PathBuf>,
    },
    /// Measure the bare engine's speed: tokens a second of prefill and of decode.
    Bench(BenchArgs),
    /// Answer one prompt and show the answer as it comes.
    Run(RunArgs),
    /// Write a model with random weights, which has the size and the speed of a real one.
    MakeModel(MakeArgs),
    /// Write a LoRA adapter of random weights for a model.
    MakeAdapter(MakeAdapterArgs),
    /// Show which CPU kernels are in use.
    Cpu,
    /// Do one job of hearthctl's: JSON on standard input, events as JSON lines.
    Offline,
    /// Compile the chat template on standard input, within bounds of time and memory.
    #[command(hide = true)]
    TryTemplate,
}

#[derive(clap::Args)]
struct BenchArgs {
    /// The GGUF file.
    model: PathBuf,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 128)]
    prompt_tokens: u32,
    /// Tokens decoded one by one.
    #[arg(long, default_value_t = 32)]
    tokens: u32,
    /// Compute threads; default: all processors.
    #[arg(long)]
    threads: Option<u32>,
    /// Measured runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// How long threads spin between two graphs (0 to 100), or `none` for no pool.
    #[arg(long, default_value = "0", hide = true)]
    poll: String,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct RunArgs {
    /// The GGUF file.
    model: PathBuf,
    /// The user's message, which the model's chat template renders.
    #[arg(long)]
    prompt: String,
    /// Take the prompt as it is, without template.
    #[arg(long)]
    raw: bool,
    /// The most tokens to generate.
    #[arg(long, default_value_t = 256)]
    max_tokens: u32,
    /// 0 always takes the likeliest token.
    #[arg(long)]
    temperature: Option<f32>,
    /// Makes sampling repeatable.
    #[arg(long)]
    seed: Option<u32>,
    /// Compute threads; default: all processors.
    #[arg(long)]
    threads: Option<u32>,
}

#[derive(clap::Args)]
struct MakeArgs {
    /// The name of a model, or `layers,width,ff,heads,kv_heads,vocab`.
    #[arg(long, required_unless_present_any = ["family", "projector"])]
    shape: Option<Shape>,
    /// A projector for pictures or sounds instead: the name of its shape.
    #[arg(long, conflicts_with_all = ["shape", "family", "storage"])]
    projector: Option<ProjectorShape>,
    /// Width of the embeddings of the projector's text model.
    #[arg(long, requires = "projector")]
    text_width: Option<u32>,
    /// A tiny model of another architecture instead, in 32-bit floats.
    #[arg(long, conflicts_with_all = ["shape", "storage"])]
    family: Option<Family>,
    /// How the weights are stored.
    #[arg(long = "type", default_value = "q8_0")]
    storage: Storage,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
    /// The same seed gives the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(clap::Args)]
struct MakeAdapterArgs {
    /// The model that it is for.
    #[arg(long)]
    base: PathBuf,
    /// Columns between the two matrices of a pair.
    #[arg(long, default_value_t = AdapterShape::default().rank)]
    rank: u32,
    /// How much it changes the outputs of matrices, at a scale of 1.
    #[arg(long, default_value_t = AdapterShape::default().strength)]
    strength: f32,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
    /// The same seed gives the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Executes itself again with a glibc tunable that requests huge pages, unless the
/// environment sets tunables. Where the kernel provides huge pages only on request
/// (`madvise`), Debian's default, repacked weights and the KV cache would otherwise be in
/// small pages, and every token accesses all of them (glibc manual, "Memory Allocation
/// Tunables"; since glibc 2.35, older versions ignore it).
fn ask_for_huge_pages() {
    const TUNABLES: &str = "GLIBC_TUNABLES";
    if env::var_os(TUNABLES).is_some() {
        return;
    }
    // If this fails, the process continues without huge pages.
    if let Ok(engine) = env::current_exe() {
        let mut anew = Command::new(engine);
        anew.args(env::args_os().skip(1));
        anew.env(TUNABLES, "glibc.malloc.hugetlb=1");
        _ = anew.exec();
    }
}

fn main() -> ExitCode {
    ask_for_huge_pages();
    let args = Args::parse();
    hearth_logging::init("hearth-engine");
    let done = match args.tool {
        None => {
            return exit_code(run(|| {
                Runtime::start()
                    .map(LlamaLoader::new)
                    .map_err(|e| e.to_string())
            }));
        }
        Some(Tool::MakeModel(args)) => {
            let out = &args.out;
            if let Some(shape) = args.projector {
                let shape = args
                    .text_width
                    .map_or(shape, |width| shape.for_width(width));
                return exit_code(make_projector(out, shape, args.seed));
            }
            return exit_code(match (args.family, args.shape) {
                (Some(family), _) => make_family(out, family, args.seed),
                (None, Some(shape)) => make(out, shape, args.storage, args.seed, &mut |_, _| ()),
                // clap requires one of them.
                (None, None) => Ok(()),
            });
        }
        Some(Tool::MakeAdapter(args)) => return exit_code(make_adapter_file(&args)),
        Some(Tool::Check { file, base }) => return check(&file, base.as_deref()),
        Some(Tool::Bench(args)) => bench(&args),
        Some(Tool::Run(args)) => answer(args),
        Some(Tool::Offline) => return exit_code(offline::run()),
        Some(Tool::TryTemplate) => return try_template(),
        Some(Tool::Cpu) => runtime().map(|runtime| println!("{}", runtime.cpu())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<Runtime, Failure> {
    Runtime::start().map_err(|e| Failure::new(FailureKind::Internal, e.to_string()))
}

fn make_adapter_file(args: &MakeAdapterArgs) -> io::Result<()> {
    let base = read_header(&mut BufReader::new(File::open(&args.base)?));
    let base = base.map_err(io::Error::other)?;
    let shape = AdapterShape {
        rank: args.rank,
        strength: args.strength,
        ..AdapterShape::default()
    };
    make_adapter(&args.out, &base, shape, args.seed)
}

fn check(file: &Path, base: Option<&Path>) -> ExitCode {
    let is_adapter = File::open(file)
        .ok()
        .and_then(|file| read_header(&mut BufReader::new(file)).ok())
        .is_some_and(|header| header.is_adapter());
    let checked = runtime().and_then(|runtime| {
        let loader = LlamaLoader::new(runtime);
        if is_adapter {
            tools::check_adapter(&loader, file, base).map(|()| None)
        } else {
            tools::check(&loader, file).map(Some)
        }
    });
    let (line, code) = match checked {
        Ok(info) => (
            serde_json::json!({"ok": true, "info": info}),
            ExitCode::SUCCESS,
        ),
        Err(failure) => (
            serde_json::json!({"ok": false, "failure": failure}),
            ExitCode::FAILURE,
        ),
    };
    println!("{line}");
    code
}

fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let poll = match args.poll.as_str() {
        "none" => None,
        n => Some(
            n.parse()
                .map_err(|_| Failure::invalid("--poll takes 0 to 100, or none"))?,
        ),
    };
    let loader = LlamaLoader::new(runtime()?).with_poll(poll);
    let wanted = BenchJob {
        model: args.model.clone(),
        prompt_tokens: args.prompt_tokens,
        tokens: args.tokens,
        threads: threads(args.threads),
        runs: args.runs,
        batches: true,
    };
    let result = tools::bench(&loader, &wanted)?;
    if args.json {
        println!("{}", serde_json::json!(result));
    } else {
        println!(
            "{}, {} threads, {}",
            result.model, result.threads, result.cpu
        );
        println!(
            "prefill {:8.1} tokens/s ({} tokens)",
            result.prefill_tokens_per_s, result.prompt_tokens
        );
        println!(
            "decode  {:8.1} tokens/s ({} tokens)",
            result.decode_tokens_per_s, result.tokens
        );
        for (tokens, cost) in &result.batch_costs {
            println!("batch   {cost:8.2} times the cost of one token, for {tokens}");
        }
    }
    Ok(())
}

fn answer(args: RunArgs) -> Result<(), Failure> {
    let prompt = if args.raw {
        Prompt::Text(args.prompt)
    } else {
        Prompt::Chat {
            messages: vec![Message::user(args.prompt)],
            tools: Vec::new(),
        }
    };
    let request = GenerateRequest {
        id: RequestId(1),
        prompt,
        sampling: Sampling {
            temperature: args.temperature,
            seed: args.seed,
            ..Sampling::default()
        },
        max_tokens: Some(args.max_tokens),
        ..GenerateRequest::default()
    };
    let context = tools::own_context(&args.model);
    let load = tools::load_request(&args.model, context, threads(args.threads));
    let end = tools::answer(&LlamaLoader::new(runtime()?), &load, &request)?;
    println!();
    if let Event::Finished { usage, .. } = end {
        log::info!(
            "{} prompt tokens in {:.0} ms, {} tokens in {:.0} ms: {:.1} tokens/s",
            usage.prompt_tokens,
            usage.prefill_ms,
            usage.completion_tokens,
            usage.decode_ms,
            usage.tokens_per_second()
        );
    }
    Ok(())
}

/// The number given, or one for each processor that this process may use.
fn threads(given: Option<u32>) -> u32 {
    let all =
        || std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    given.unwrap_or_else(all).max(1)
}
