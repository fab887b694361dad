//! Samples what a server's processes use while they answer, on a separate thread, so that
//! it does not delay the measured times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hearth_proto::units::{Bytes, MilliCelsius};
use hearth_sensors::Sensors;

use super::proc::{Kind, Proc};

/// Sampling interval: adding up the pages of a large process takes milliseconds.
const EVERY: Duration = Duration::from_millis(200);

/// Resources used.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceUse {
    /// CPU time of the process tree.
    pub cpu: Option<Duration>,
    /// Memory: the mean of all samples, the largest, and how it was counted.
    pub memory: Option<(Bytes, Bytes, Kind)>,
    /// The highest temperature of the board in degrees Celsius.
    pub celsius: Option<f64>,
}

/// The sampling thread.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<ResourceUse>,
}

impl Sampler {
    /// Starts to sample a process and its descendants; without one, the board only.
    pub fn begin(top: Option<u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // Before the question is sent, not when the thread is scheduled.
        let (proc, sensors) = (Proc::here(), Sensors::new("/"));
        let before = top.map(|top| proc.cpu(&proc.tree(top)));
        let thread = std::thread::spawn(move || {
            let mut samples = Samples::default();
            loop {
                let last = stopped.load(Ordering::Acquire);
                samples.take(&proc, &sensors, top);
                if last {
                    break;
                }
                std::thread::park_timeout(EVERY);
            }
            let cpu = top.zip(before).map(|(top, before)| {
                let after = proc.cpu(&proc.tree(top));
                after.saturating_sub(before)
            });
            ResourceUse {
                cpu,
                ..samples.summary()
            }
        });
        Self { stop, thread }
    }

    /// Takes a last sample and ends.
    pub fn end(self) -> ResourceUse {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Samples {
    count: u64,
    sum: u64,
    peak: Bytes,
    resident_only: bool,
    celsius: Option<f64>,
}

impl Samples {
    fn take(&mut self, proc: &Proc, sensors: &Sensors, top: Option<u32>) {
        if let Some((bytes, kind)) = top.and_then(|top| proc.memory(&proc.tree(top))) {
            self.count += 1;
            self.sum += bytes.0;
            self.peak = self.peak.max(bytes);
            self.resident_only |= kind == Kind::Rss;
        }
        let celsius = sensors.read().temperature.map(MilliCelsius::celsius);
        self.celsius = match (self.celsius, celsius) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }

    fn summary(&self) -> ResourceUse {
        let kind = if self.resident_only {
            Kind::Rss
        } else {
            Kind::Pss
        };
        let mean = self.sum.checked_div(self.count).map(Bytes);
        ResourceUse {
            cpu: None,
            memory: mean.map(|mean| (mean, self.peak, kind)),
            celsius: self.celsius,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_use_of_this_process_is_measured() {
        let sampler = Sampler::begin(Some(std::process::id()));
        let mut text = String::new();
        while text.len() < 4 << 20 {
            text.push_str("busy ");
        }
        let used = sampler.end();
        let (mean, peak, _) = used.memory.unwrap();
        assert!(mean.0 > 0 && mean <= peak);
        assert!(used.cpu.is_some());
        assert!(Sampler::begin(None).end().memory.is_none());
    }
}
