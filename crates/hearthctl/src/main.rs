//! `hearthctl`: Hearthd's client for people and scripts, over D-Bus.
//!
//! Standard output has only the answer; progress, statistics and errors go to standard
//! error. With `--json`, errors are also a document on standard output, so that a script
//! reads one stream.

mod advise;
mod answer;
mod assemble;
mod atomic_file;
mod bench;
mod bus;
mod cache;
mod candidates;
mod catalogue;
mod chat;
mod chat_input;
mod cli;
mod docs;
mod error;
mod evaluate;
mod fit;
mod formatter;
mod generate;
mod global;
mod import;
mod input;
mod jobs;
mod mcp;
mod models;
mod output;
mod prewarm;
mod progress;
mod projector;
mod pull;
mod quantize;
mod request;
mod rerank;
mod signals;
mod simulate;
mod space;
mod status;
mod table;
mod top;
mod tune;
mod upload;
mod value;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use error::{CtlError, Result};
use signals::interrupted;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage_error(&e),
    };
    let json = cli.global.is_json();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => return finish(Err(e.into()), json),
    };
    let result = runtime.block_on(run(cli));
    // Does not wait for a thread that still reads standard input.
    runtime.shutdown_background();
    finish(result, json)
}

async fn run(cli: Cli) -> Result {
    // A chat continues after Ctrl-C. Every other command ends, and closing the connection
    // and the pipe cancels its request.
    if let Command::Chat(args) = &cli.command {
        return chat::run(&cli.global, args).await;
    }
    tokio::select! {
        biased;
        // Polled first, so that a signal at any moment removes what a command has begun.
        () = interrupted() => Err(CtlError::Interrupted),
        result = dispatch(&cli) => result,
    }
}

async fn dispatch(cli: &Cli) -> Result {
    let json = cli.global.is_json();
    match &cli.command {
        Command::GenerateMan { dir } => return docs::man(dir),
        Command::GenerateCompletions { dir } => return docs::completions(dir),
        Command::Fit(args) => return fit::run(json, args),
        Command::Simulate(args) => return simulate::run(json, args),
        Command::Models(args) if args.fit => return candidates::run(json, args),
        Command::Bench(command) => return bench::run(json, command).await,
        Command::Advise(args) => return advise::run(json, args).await,
        Command::Evaluate(args) => return evaluate::run(json, args).await,
        Command::Quantize(args) => return quantize::run(json, args).await,
        Command::Imatrix(args) => return quantize::imatrix(json, args).await,
        _ => {}
    }
    // Commands with input read it before they connect, so that a usage error is reported
    // with or without a service.
    match &cli.command {
        Command::Generate(args) => generate::run(&cli.global, args).await,
        Command::Prewarm(args) => prewarm::run(&cli.global, args).await,
        Command::Submit(args) => jobs::submit(&cli.global, args).await,
        Command::Import(args) => import::run(&cli.global, args).await,
        Command::Pull(args) => pull::run(&cli.global, args).await,
        Command::Embed { texts } => generate::embed(&cli.global, texts).await,
        Command::Rerank(args) => rerank::run(&cli.global, args).await,
        Command::CountTokens { text } => generate::count(&cli.global, text.as_deref()).await,
        Command::Status(args) => status::run(&bus::connect(&cli.global).await?, json, args).await,
        Command::Tune(args) => tune::run(&bus::connect(&cli.global).await?, json, args).await,
        Command::Top => top::run(&bus::connect(&cli.global).await?, json).await,
        Command::Models(_) => models::list(&bus::connect(&cli.global).await?, json).await,
        Command::Load { name } => {
            models::load(&bus::connect(&cli.global).await?, json, name.as_deref()).await
        }
        Command::Unload { name } => {
            let bus = bus::connect(&cli.global).await?;
            models::unload(&bus, json, name.as_deref()).await
        }
        Command::Remove { name } => {
            models::remove(&bus::connect(&cli.global).await?, json, name).await
        }
        Command::Cache(command) => {
            cache::run(&bus::connect(&cli.global).await?, json, command).await
        }
        Command::Jobs => jobs::list(&bus::connect(&cli.global).await?, json).await,
        Command::Result { id } => jobs::result(&bus::connect(&cli.global).await?, json, id).await,
        Command::Cancel { id } => jobs::cancel(&bus::connect(&cli.global).await?, json, id).await,
        Command::Advise(_)
        | Command::Bench(_)
        | Command::Chat(_)
        | Command::Evaluate(_)
        | Command::Fit(_)
        | Command::Imatrix(_)
        | Command::Quantize(_)
        | Command::Simulate(_)
        | Command::GenerateMan { .. }
        | Command::GenerateCompletions { .. } => Ok(()),
    }
}

/// Shows help if it was requested, otherwise the error in the command line.
fn usage_error(error: &clap::Error) -> ExitCode {
    // The options are not parsed, but the caller of `--json` expects JSON.
    let is_json = |arg: &OsStr| arg == "--json" || arg.as_encoded_bytes().starts_with(b"--json=");
    if error.use_stderr() && std::env::args_os().any(|arg| is_json(&arg)) {
        let text = error.to_string();
        let text = text.trim().strip_prefix("error: ").unwrap_or(&text);
        return finish(Err(CtlError::Usage(text.to_owned())), true);
    }
    // The only possible error is that the reader has closed its end.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}

/// Reports an error in the requested form and returns the exit code.
fn finish(result: Result, json: bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed its end, which is not an error.
        Err(e) if e.is_broken_pipe() => ExitCode::SUCCESS,
        Err(e) => {
            output::report(&e, json);
            ExitCode::from(e.exit_code())
        }
    }
}
