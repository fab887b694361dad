//! The daemon: arguments, then `app::run`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hearthd::app::{self, Options};
use hearthd::{config, logging};

/// Serves language models over D-Bus and a Unix socket. Started by systemd
/// (hearthd.service); by hand it logs to standard error.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// The configuration file; files in FILE.d/*.toml are read after it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and exit.
    #[arg(long)]
    check_config: bool,
    /// Print the documented default configuration and exit.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_config {
        print!("{}", config::render_default());
        return ExitCode::SUCCESS;
    }
    logging::init("hearthd");
    let options = Options {
        config_required: args.config.is_some(),
        config: args
            .config
            .unwrap_or_else(|| "/etc/hearthd/hearthd.toml".into()),
    };
    if args.check_config {
        return match app::load_config(&options) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    app::run(&options)
}
