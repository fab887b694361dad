//! Options of `simulate`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use hearth_policy::simulator::{BOARDS, Event, ambient_celsius};

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Board to simulate; see `--list`.
    #[arg(required_unless_present = "list", value_parser = boards())]
    pub board: Option<String>,
    /// List the boards.
    #[arg(long)]
    pub list: bool,
    /// Ambient temperature in degrees Celsius.
    #[arg(
        long,
        value_name = "CELSIUS",
        default_value = "25",
        allow_negative_numbers = true
    )]
    #[arg(value_parser = ambient_celsius)]
    pub ambient: f64,
    /// Simulated duration in hours, up to 48.
    #[arg(long, default_value = "1", value_parser = hours)]
    pub hours: f64,
    /// Governor policy, as `governor.policy` in /etc/hearthd/hearthd.toml.
    #[arg(long, default_value = "balanced", value_parser = ["balanced", "throughput", "quiet"])]
    pub policy: String,
    /// Share of the computing power that the policy quiet allows, in percent.
    #[arg(long, value_name = "N", default_value = "60")]
    #[arg(value_parser = clap::value_parser!(u8).range(5..=100))]
    pub power_percent: u8,
    /// Events during the simulation, e.g. `fan-fails@20m,ambient+10@40m`.
    #[arg(long, value_name = "EVENT", value_delimiter = ',', value_parser = event)]
    pub events: Vec<Event>,
    /// Write a plot to this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

fn boards() -> PossibleValuesParser {
    BOARDS.map(|board| board.name).into()
}

fn event(text: &str) -> Result<Event, String> {
    text.parse().map_err(|e| format!("{e}"))
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if (0.01..=48.0).contains(&t) => Ok(t),
        _ => Err("a number from 0.01 to 48 is required".to_owned()),
    }
}
