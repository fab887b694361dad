//! The kernel files of a simulated board.

use super::boards::Slowing;
use super::plant::Plant;

const ZONE: &str = "sys/class/thermal/thermal_zone0";
const CPU: &str = "sys/devices/system/cpu";
const HWMON: &str = "sys/class/hwmon/hwmon0";
const THROTTLED: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";

impl Plant {
    /// The kernel's files on such a board, below the root, with their contents: thermal
    /// zone, cores and their clock, and the firmware's files on a Raspberry Pi.
    pub fn files(&self) -> Vec<(String, String)> {
        let board = self.board();
        let reading = self.reading();
        let temperature = reading.temperature.unwrap_or_default().0;
        let mut trips = vec![("critical", board.critical.0)];
        trips.extend(reading.passive_trip.map(|at| ("passive", at.0)));
        let mut files = vec![
            (format!("{ZONE}/type"), "cpu-thermal".to_owned()),
            (format!("{ZONE}/temp"), temperature.to_string()),
            (format!("{CPU}/online"), format!("0-{}", board.threads - 1)),
        ];
        for (n, (kind, at)) in trips.into_iter().enumerate() {
            files.push((format!("{ZONE}/trip_point_{n}_type"), kind.to_owned()));
            files.push((format!("{ZONE}/trip_point_{n}_temp"), at.to_string()));
        }
        // Throttling by the firmware is not visible in `scaling_max_freq`; the kernel's
        // own is.
        let cap = match board.clock.slowing {
            Slowing::Firmware { .. } => board.clock.max,
            Slowing::Kernel { .. } => self.clock_mhz(),
        };
        let related: Vec<String> = (0..board.threads).map(|cpu| cpu.to_string()).collect();
        for cpu in &related {
            let folder = format!("{CPU}/cpu{cpu}/cpufreq");
            let full = format!("{:.0}", board.clock.max * 1000.0);
            files.push((format!("{folder}/related_cpus"), related.join(" ")));
            files.push((format!("{folder}/cpuinfo_max_freq"), full));
            let cap = format!("{:.0}", cap * 1000.0);
            files.push((format!("{folder}/scaling_max_freq"), cap));
        }
        if let Some(firmware) = reading.firmware {
            let bits = [
                firmware.under_voltage,
                firmware.capped,
                firmware.throttled,
                firmware.soft_limit,
            ];
            let word = (0..).zip(bits).map(|(n, on)| u32::from(on) << n);
            let alarm = u32::from(firmware.under_voltage).to_string();
            files.extend([
                (format!("{HWMON}/name"), "rpi_volt".to_owned()),
                (format!("{HWMON}/in0_lcrit_alarm"), alarm),
                (THROTTLED.to_owned(), format!("{:x}", word.sum::<u32>())),
            ]);
        }
        let model = format!("{} (simulated)", board.about);
        files.push(("proc/device-tree/model".to_owned(), model));
        files
    }
}
