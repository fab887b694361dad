//! The daemon: arguments, then `app::run`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hearth_policy::simulator::{BOARDS, Board, board};
use hearthd::app::{self, Options};
use hearthd::config;

/// Serves language models over D-Bus and a Unix socket. Normally started by systemd
/// (hearthd.service); started by hand, it logs to standard error.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// The configuration file; drop-ins in FILE.d/*.toml are read after it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and exit.
    #[arg(long)]
    check_config: bool,
    /// Print the documented default configuration and exit.
    #[arg(long)]
    print_config: bool,
    /// Simulate a board that heats up as the engine works, and read its sensors instead of
    /// this machine's. `hearthctl simulate --list` lists the boards.
    #[arg(long, value_name = "BOARD", value_parser = simulated)]
    simulate_board: Option<&'static Board>,
    /// Ambient temperature of the simulated board.
    #[arg(
        long,
        value_name = "CELSIUS",
        default_value_t = 25.0,
        requires = "simulate_board",
        allow_negative_numbers = true
    )]
    simulate_ambient: f64,
}

fn simulated(name: &str) -> Result<&'static Board, String> {
    board(name).ok_or_else(|| {
        let names: Vec<&str> = BOARDS.iter().map(|board| board.name).collect();
        format!("the boards are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_config {
        print!("{}", config::render_default());
        return ExitCode::SUCCESS;
    }
    hearth_logging::init("hearthd");
    let options = Options {
        config_required: args.config.is_some(),
        config: args
            .config
            .unwrap_or_else(|| "/etc/hearthd/hearthd.toml".into()),
        simulate: args
            .simulate_board
            .map(|board| (board, args.simulate_ambient)),
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
