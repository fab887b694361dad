//! The figures as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

/// Everything that was measured in one run of the benchmark.
#[derive(Serialize)]
pub struct Report {
    version: &'static str,
    /// The processor, and its number of cores.
    machine: String,
    threads: u32,
    runs: usize,
    sections: Vec<Section>,
}

/// The figures of one model.
#[derive(Serialize)]
struct Section {
    model: String,
    rows: Vec<Row>,
}

/// One figure.
#[derive(Serialize)]
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    /// The value divided by that of the row it is compared with.
    ratio: Option<f64>,
    note: String,
}

impl Report {
    pub fn new(threads: u32, runs: usize) -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = cpus
            .lines()
            .find_map(|l| l.strip_prefix("model name")?.split(": ").nth(1))
            // Arm kernels report the board instead.
            .map(str::to_owned)
            .or_else(|| fs::read_to_string("/proc/device-tree/model").ok())
            .unwrap_or_else(|| std::env::consts::ARCH.into());
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            machine: format!("{count} × {}", name.trim_end_matches('\0')),
            threads,
            runs,
            sections: Vec::new(),
        }
    }

    /// Starts the figures of another model.
    pub fn model(&mut self, model: &str) {
        eprintln!("measuring {model}");
        self.sections.push(Section {
            model: model.to_owned(),
            rows: Vec::new(),
        });
    }

    /// Adds a figure; the ratio is to `of`, if given.
    pub fn row(&mut self, what: &str, value: f64, unit: &'static str, of: Option<f64>, note: &str) {
        eprintln!("  {what}: {value:.2} {unit} {note}");
        let section = self.sections.last_mut().expect("a section was begun");
        section.rows.push(Row {
            what: what.to_owned(),
            value,
            unit,
            ratio: of.filter(|of| *of != 0.0).map(|of| value / of),
            note: note.to_owned(),
        });
    }

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap()
    }

    pub fn markdown(&self) -> String {
        let mut text = format!(
            "Hearthd {}, {}, {} compute thread(s), medians of {}.\n",
            self.version, self.machine, self.threads, self.runs
        );
        for section in &self.sections {
            _ = write!(
                text,
                "\n### {}\n\n| | | ratio | |\n|---|--:|--:|---|\n",
                section.model
            );
            for row in &section.rows {
                let ratio = row.ratio.map(|r| format!("{r:.3}")).unwrap_or_default();
                _ = writeln!(
                    text,
                    "| {} | {:.1} {} | {ratio} | {} |",
                    row.what, row.value, row.unit, row.note
                );
            }
        }
        text
    }
}
