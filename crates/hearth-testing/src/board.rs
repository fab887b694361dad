//! A board whose sensors are files.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Memory of the board in KiB.
const MEMORY_KIB: u64 = 4 * 1024 * 1024;

/// The files of a board, below a root that stands for `/`.
#[derive(Clone, Debug)]
pub struct Board {
    root: PathBuf,
}

impl Board {
    /// A board at this root; it has no sensors until they are set.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The root.
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// Sets the temperature of the processor; the board is to stay below 80 degrees.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn set_celsius(&self, celsius: i32) -> io::Result<()> {
        for (name, value) in [
            ("type", "cpu-thermal".to_owned()),
            ("trip_point_0_type", "passive".to_owned()),
            ("trip_point_0_temp", "80000".to_owned()),
            ("temp", format!("{celsius}000")),
        ] {
            self.write(&format!("sys/class/thermal/thermal_zone0/{name}"), &value)?;
        }
        Ok(())
    }

    /// Sets the available memory, in per cent of 4 GiB.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn set_available(&self, percent: u64) -> io::Result<()> {
        let available = MEMORY_KIB / 100 * percent;
        let text = format!("MemTotal: {MEMORY_KIB} kB\nMemAvailable: {available} kB\n");
        self.write("proc/meminfo", &text)
    }

    /// Sets the systemd unit of a process.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn set_unit(&self, pid: u32, unit: &str) -> io::Result<()> {
        let group = format!("0::/system.slice/{unit}\n");
        self.write(&format!("proc/{pid}/cgroup"), &group)
    }

    /// Replaces a file: a reader sees the old one or the new one.
    fn write(&self, path: &str, content: &str) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = path.with_extension("new");
        fs::write(&new, content)?;
        fs::rename(new, path)
    }
}
