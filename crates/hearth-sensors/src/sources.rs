//! The files in use, for users who want to know where a value comes from.

use std::fmt;
use std::path::PathBuf;

/// The files that [`Sensors`](super::Sensors) reads on this board. `Display` writes one
/// line for each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The board's name in the device tree; `None` on a PC.
    pub board: Option<String>,
    /// Thermal zones: name and folder. The hottest one counts.
    pub zones: Vec<(String, PathBuf)>,
    /// Power and throttling of a Raspberry Pi.
    pub firmware: Vec<PathBuf>,
    /// The config.txt that was searched for `temp_limit`.
    pub firmware_config: Option<PathBuf>,
    /// Frequency caps of the big cores.
    pub frequency: Vec<PathBuf>,
    /// Memory: `/proc/meminfo`, and `memory.current` where there is a controller.
    pub memory: Vec<PathBuf>,
    /// Stalls due to memory shortage.
    pub psi_memory: Option<PathBuf>,
    /// Stalls due to CPU contention.
    pub psi_cpu: Option<PathBuf>,
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |paths: &mut dyn Iterator<Item = String>| {
            let text = paths.collect::<Vec<_>>().join(", ");
            if text.is_empty() { "none".into() } else { text }
        };
        let files = |paths: &[PathBuf]| list(&mut paths.iter().map(|p| p.display().to_string()));
        let zones = self.zones.iter();
        let zones = &mut zones.map(|(name, path)| format!("{name} ({})", path.display()));
        let board = self.board.as_deref().unwrap_or("none");
        writeln!(f, "device tree: {board}")?;
        writeln!(f, "temperature: {}", list(zones))?;
        writeln!(f, "firmware: {}", files(&self.firmware))?;
        writeln!(
            f,
            "firmware limit: {}",
            files(self.firmware_config.as_slice())
        )?;
        writeln!(f, "frequency: {}", files(&self.frequency))?;
        writeln!(f, "memory: {}", files(&self.memory))?;
        writeln!(f, "memory pressure: {}", files(self.psi_memory.as_slice()))?;
        write!(f, "cpu pressure: {}", files(self.psi_cpu.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_one_line_for_each_kind() {
        let sources = Sources {
            board: Some("Raspberry Pi 5".into()),
            zones: vec![("cpu-thermal".into(), "/sys/z0".into())],
            memory: vec!["/proc/meminfo".into(), "/sys/m".into()],
            ..Sources::default()
        };
        assert_eq!(
            sources.to_string(),
            "device tree: Raspberry Pi 5\n\
             temperature: cpu-thermal (/sys/z0)\n\
             firmware: none\n\
             firmware limit: none\n\
             frequency: none\n\
             memory: /proc/meminfo, /sys/m\n\
             memory pressure: none\n\
             cpu pressure: none"
        );
    }
}
