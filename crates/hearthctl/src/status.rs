//! `status`: shows the state of the service and what limits it.

use std::time::Duration;

use clap::Args;

use crate::bus::{Bus, Dict};
use crate::error::Result;
use crate::output::{self, BAD, FAINT, GOOD, WARN};
use crate::value::{dict_to_json, float, number, text, texts};

/// Refresh interval of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Moves the cursor to the top left and clears the screen below it.
const HOME_AND_CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Refresh every second until Ctrl-C.
    #[arg(long, short)]
    pub watch: bool,
}

/// `hearthctl status`.
pub async fn run(bus: &Bus, json: bool, args: &StatusArgs) -> Result {
    let mut status = bus.properties().await?;
    if !args.watch {
        return show(&status, json);
    }
    let redraw = output::stdout_is_terminal() && !json;
    let mut tick = tokio::time::interval(WATCH_EVERY);
    let mut last = None;
    loop {
        // In a pipe, only changes are printed.
        let current = dict_to_json(&status);
        if redraw {
            output::write(HOME_AND_CLEAR)?;
        }
        if redraw || last.as_ref() != Some(&current) {
            show(&status, json)?;
            if !redraw && !json {
                output::line("")?;
            }
        }
        last = Some(current);
        tick.tick().await;
        status = bus.properties().await?;
    }
}

fn show(status: &Dict, json: bool) -> Result {
    if json {
        return output::json(&dict_to_json(status));
    }
    for (name, value) in lines(status) {
        let value = output::clean(&value);
        let style = if name == "State" {
            state_style(status)
        } else {
            ""
        };
        let value = match style {
            "" => value,
            style => output::coloured(style, &value).into_owned().into(),
        };
        let name = format!("{:<13}", format!("{name}:"));
        output::line(&format!("{}{value}", output::coloured(FAINT, &name)))?;
    }
    Ok(())
}

fn state_style(status: &Dict) -> &'static str {
    match text(status, "State") {
        "ready" | "busy" => GOOD,
        "limited" | "loading" => WARN,
        "failed" => BAD,
        _ => "",
    }
}

/// The status as lines of text, without what the board or the service does not report.
fn lines(status: &Dict) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut add = |name, value: String| {
        if !value.is_empty() {
            lines.push((name, value));
        }
    };
    add("State", text(status, "State").to_owned());
    add("Limited by", text(status, "LimitReason").to_owned());
    let model = text(status, "Model");
    add(
        "Model",
        if model.is_empty() {
            "none loaded"
        } else {
            model
        }
        .to_owned(),
    );
    let context = number(status, "ContextSize");
    if context > 0 {
        add("Context", format!("{context} tokens"));
    }
    let (active, max) = (
        number(status, "ActiveThreads"),
        number(status, "MaxThreads"),
    );
    add("Threads", format!("{active} of {max}"));
    add("Temperature", temperature(status));
    add("Memory", text(status, "MemoryState").to_owned());
    let (waiting, running) = (number(status, "QueueLength"), number(status, "ActiveJobs"));
    add("Queue", format!("{waiting} waiting, {running} running"));
    let speed = float(status, "TokensPerSecond");
    if speed > 0.0 {
        add("Speed", format!("{speed:.1} tokens/s in the last answer"));
    }
    add("CPU kernels", text(status, "Cpu").to_owned());
    add("Features", texts(status, "Features").join(", "));
    add("Version", version(text(status, "Version")));
    lines
}

/// Not a number: the board has no temperature sensor.
fn temperature(status: &Dict) -> String {
    let (state, celsius) = (
        text(status, "ThermalState"),
        float(status, "TemperatureCelsius"),
    );
    if celsius.is_nan() {
        return "no sensor".to_owned();
    }
    format!("{celsius:.1} °C, {state}")
}

/// Points out a daemon that was not restarted after an upgrade.
fn version(service: &str) -> String {
    let own = env!("CARGO_PKG_VERSION");
    if service.is_empty() || service == own {
        service.to_owned()
    } else {
        format!("{service} (hearthctl is {own}; restart hearthd after an upgrade)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::{OwnedVariant, Variant};

    #[test]
    fn the_reason_of_a_limit_is_shown() {
        let status: Dict = [
            ("State", Variant::from("limited")),
            ("LimitReason", Variant::from("78 °C: 2 threads")),
            ("Model", Variant::from("demo")),
            ("ActiveThreads", Variant::from(2u32)),
            ("MaxThreads", Variant::from(4u32)),
            ("ThermalState", Variant::from("limit")),
            ("TemperatureCelsius", Variant::from(78.25)),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), OwnedVariant::try_from(value).unwrap()))
        .collect();
        let lines = lines(&status);
        assert!(lines.contains(&("Limited by", "78 °C: 2 threads".into())));
        assert!(lines.contains(&("Threads", "2 of 4".into())));
        assert!(lines.contains(&("Temperature", "78.2 °C, limit".into())));
        assert!(!lines.iter().any(|(name, _)| *name == "Context"));
    }

    #[test]
    fn another_version_of_the_service_is_noted() {
        assert_eq!(
            version(env!("CARGO_PKG_VERSION")),
            env!("CARGO_PKG_VERSION")
        );
        assert!(version("0.0.0").contains("restart hearthd"));
    }
}
