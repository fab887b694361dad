//! The governor: derives limits from the board's temperature and memory usage.
//!
//! Pure: [`Governor::observe`] takes the time and a [`Reading`] and returns the
//! limits; it opens no file and reads no clock. docs/governor.md describes what it does
//! and why.

mod control;
mod division;
mod limit;
mod pressure;
mod reason;
mod sensor;
mod settings;
mod spending;
mod thermal;

use std::time::Duration;

pub use division::{Division, divide};
pub use hearth_proto::reading::{Cores, Firmware, Memory, Psi, Reading};
pub use pressure::MemoryState;
pub use reason::Cause;
pub use settings::{GovernorSettings, Policy};
pub use spending::SpeedTable;
pub use thermal::ThermalState;

use hearth_proto::Limits;
use hearth_proto::units::{MilliCelsius, Permille};

use control::{Aim, Control};
use limit::Bounds;
use pressure::Pressure;
use reason::{Facts, Reason};
use sensor::{Sensor, SensorState};
use spending::{Demand, Spending};
use thermal::Thermal;

/// Time since an arbitrary start, as the control task counts it.
pub type Now = Duration;

/// The set point is this far below the limit.
const SET_POINT_BELOW_K: f64 = 1.5;
/// Under `throughput` it is above the limit: only what the firmware fails to control.
const SET_POINT_THROUGHPUT_K: f64 = 3.0;
/// From this far below the limit on full power is allowed.
const FULL_BELOW_K: f64 = 15.0;
/// Within this distance of the limit the board is read twice per second.
const CLOSE: i32 = 5_000;
/// A frequency cap below this counts as throttling, if the board is within [`CLOSE`].
const SLOWED_BELOW: Permille = Permille(900);
/// After under-voltage the threads are limited for this long, to at most this many.
const UNDER_VOLTAGE_FOR: Duration = Duration::from_mins(1);
const UNDER_VOLTAGE_THREADS: u32 = 2;
/// The share allowed after the sensor was lost.
const SHARE_BLIND: f64 = 0.5;
/// A pause ends if the temperature has been unknown for this long.
const BLIND_PAUSE: Duration = Duration::from_mins(1);
/// After an emergency work continues with at most this share.
const SHARE_AFTER_EMERGENCY: f64 = 0.25;
/// Time after which a client may retry in an emergency.
const RETRY: Duration = Duration::from_secs(30);
/// The duty is set in steps, and changed only if it is this far off, in permille.
const DUTY_STEP: u16 = 10;
const DUTY_STALE: u16 = 15;
/// Below the first duty prefill uses small chunks, from the second on full ones: the
/// smaller the duty, the longer the pause after a chunk, and other requests wait for it.
const CHUNK_SMALL_BELOW: Permille = Permille(700);
const CHUNK_FULL_FROM: Permille = Permille(800);
const CHUNK_SMALL: u32 = 64;

/// The governor's decision, with the values shown on D-Bus and to users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Limits for the engine.
    pub limits: Limits,
    /// The thermal state.
    pub thermal: ThermalState,
    /// The memory state.
    pub memory: MemoryState,
    /// Whether new requests are refused because memory is short.
    pub refuses: bool,
    /// Why the limits are below full; empty when they are not. It changes only with its cause,
    /// threads and duty; the temperature in it is that at the change.
    pub reason: String,
    /// The cause in `reason`.
    pub cause: Option<Cause>,
    /// The temperature limit; `None` for a board that never reported a temperature.
    pub temperature_limit: Option<MilliCelsius>,
    /// Share of the computing power that is allowed.
    pub share: Permille,
    /// Time until the next reading while requests run; an idle board needs only one every 5 s.
    pub look_again: Duration,
    /// Time after which a refused caller may retry; only while paused.
    pub retry_after: Option<Duration>,
}

/// Turns readings into limits.
#[derive(Clone, Debug)]
pub struct Governor {
    settings: GovernorSettings,
    thermal: Thermal,
    pressure: Pressure,
    control: Control,
    spending: Spending,
    reason: Reason,
    bounds: Option<Bounds>,
    sensor: Sensor,
    under_voltage_until: Option<Now>,
    limits: Limits,
}

impl Governor {
    /// A governor without readings.
    pub fn new(settings: GovernorSettings) -> Self {
        let settings = GovernorSettings {
            threads_max: settings.threads_max.max(1),
            ..settings
        };
        let threads = settings.threads_max;
        Self {
            thermal: Thermal::default(),
            pressure: Pressure::default(),
            control: Control::default(),
            spending: Spending::new(threads),
            reason: Reason::default(),
            bounds: None,
            sensor: Sensor::default(),
            under_voltage_until: None,
            limits: Limits {
                threads,
                ..Limits::default()
            },
            settings,
        }
    }

    /// The system has reported that memory is short.
    pub fn warn_of_memory(&mut self, now: Now) {
        self.pressure.warn(now);
    }

    /// Replaces the settings; they apply from the next reading on.
    pub fn set_settings(&mut self, settings: GovernorSettings) {
        let threads_max = settings.threads_max.max(1);
        if threads_max != self.settings.threads_max {
            self.spending = Spending::new(threads_max);
        }
        self.reason = Reason::default();
        self.settings = GovernorSettings {
            threads_max,
            ..settings
        };
    }

    /// Sets measured speeds; they apply from the next reading on.
    pub fn set_table(&mut self, table: SpeedTable, threads_useful: Option<u32>) {
        self.settings.table = table;
        self.settings.threads_useful = threads_useful;
    }

    /// The current settings.
    pub fn settings(&self) -> &GovernorSettings {
        &self.settings
    }

    /// Takes one reading at time `now` (monotonic) and returns the decision.
    pub fn observe(&mut self, now: Now, reading: &Reading) -> Verdict {
        let policy = self.settings.policy;
        let sensor = self.sensor.observe(now, reading);
        let bounds = match (self.bounds, sensor) {
            (Some(bounds), SensorState::Missing | SensorState::Lost) => bounds,
            _ => Bounds::of(reading, policy, self.settings.temperature_limit),
        };
        self.bounds = Some(bounds);
        let firmware = reading.firmware.unwrap_or_default();
        if firmware.under_voltage {
            self.under_voltage_until = Some(now + UNDER_VOLTAGE_FOR);
        }
        let starved = self.under_voltage_until.is_some_and(|until| now < until);
        let slowed = is_slowed(reading, bounds, starved);

        let thermal = self.update_thermal(now, sensor, bounds, slowed);
        let paused = thermal == ThermalState::Emergency;
        let cap = match sensor {
            SensorState::Lost => policy.cap().min(SHARE_BLIND),
            _ => policy.cap(),
        };
        let share = match sensor {
            SensorState::Never => cap,
            _ => self.control.share().min(cap),
        };
        self.spend(now, sensor, bounds, share, cap, starved);
        self.limits.paused = paused;

        let memory = self.pressure.observe(now, &reading.memory);
        let limits = self.within(&reading.cores, memory);

        let cause = self.cause(sensor, thermal, starved);
        let retry_after = paused.then_some(RETRY);
        let temperature = self.sensor.last();
        let facts = Facts {
            cause,
            slowed,
            policy,
            temperature,
            limit: bounds.limit,
            threads: self.limits.threads,
            threads_max: self.settings.threads_max,
            duty_permille: i32::from(self.limits.duty.0),
            retry_s: RETRY.as_secs(),
        };
        let is_close = temperature.is_some_and(|t| t.0 >= bounds.limit.0 - CLOSE);
        Verdict {
            limits,
            thermal,
            memory,
            refuses: self.pressure.refuses(now),
            reason: self.reason.update(now, &facts).to_owned(),
            cause: self.reason.cause(),
            temperature_limit: temperature.map(|_| bounds.limit),
            share: permille(share),
            look_again: Duration::from_millis(if is_close { 500 } else { 1000 }),
            retry_after,
        }
    }

    /// Why the limits are below full; `None` if they are not.
    fn cause(&self, sensor: SensorState, thermal: ThermalState, starved: bool) -> Option<Cause> {
        let limited =
            self.limits.threads < self.settings.threads_max || self.limits.duty < Permille::FULL;
        let by_voltage = starved && self.limits.threads == UNDER_VOLTAGE_THREADS;
        if self.limits.paused {
            Some(Cause::Emergency)
        } else if limited && by_voltage {
            Some(Cause::UnderVoltage)
        } else if sensor == SensorState::Lost {
            Some(Cause::SensorLost)
        } else if thermal >= ThermalState::Hot || self.settings.policy.cap() >= 1.0 {
            limited.then_some(Cause::Heat)
        } else {
            limited.then_some(Cause::Quiet)
        }
    }

    /// The limits for the current cores and memory state.
    fn within(&self, cores: &Cores, memory: MemoryState) -> Limits {
        // More threads than big cores were configured explicitly.
        let cpus = if self.settings.threads_max <= cores.big.len() {
            cores.big
        } else {
            cores.allowed
        };
        let most = if cpus.is_empty() {
            u32::MAX
        } else {
            cpus.len()
        };
        let useful = self.settings.threads_useful.unwrap_or(u32::MAX);
        let threads = self.limits.threads.min(most).min(useful);
        Limits {
            threads,
            decode_threads: self.settings.table.fastest(threads),
            // A running request needs no additional memory; further ones would.
            slots: u32::from(memory >= MemoryState::Critical),
            cpus,
            ..self.limits
        }
    }

    /// Updates the state machine and the controller.
    fn update_thermal(
        &mut self,
        now: Now,
        sensor: SensorState,
        bounds: Bounds,
        slowed: bool,
    ) -> ThermalState {
        let temperature = match sensor {
            SensorState::Seen(temperature) => temperature,
            SensorState::Lost => {
                let blind = self.sensor.blind(now);
                if blind.is_some_and(|d| d >= BLIND_PAUSE) {
                    self.thermal.leave_emergency();
                }
                return self.thermal.state();
            }
            SensorState::Never | SensorState::Missing => return self.thermal.state(),
        };
        let before = self.thermal.state();
        let state = self.thermal.observe(now, temperature, bounds, slowed);
        let top = self.spending.top(self.settings.threads_max);
        let aim = self.aim(bounds, top.min(self.settings.policy.cap()));
        self.control.observe(now, temperature, aim);
        if state == ThermalState::Emergency || before == ThermalState::Emergency {
            // While nothing is computed the temperature does not depend on the share.
            self.control.lower_to(SHARE_AFTER_EMERGENCY);
        }
        state
    }

    fn aim(&self, bounds: Bounds, top: f64) -> Aim {
        let limit = bounds.limit.celsius();
        match self.settings.policy {
            Policy::Throughput => Aim {
                set_point: limit + SET_POINT_THROUGHPUT_K,
                full_below: limit,
                top,
            },
            Policy::Balanced | Policy::Quiet { .. } => Aim {
                set_point: limit - SET_POINT_BELOW_K,
                full_below: limit - FULL_BELOW_K,
                top,
            },
        }
    }

    /// Threads, then duty, then smaller chunks.
    fn spend(
        &mut self,
        now: Now,
        sensor: SensorState,
        bounds: Bounds,
        share: f64,
        cap: f64,
        starved: bool,
    ) {
        let aim = self.aim(bounds, 1.0);
        let threads_max = self.settings.threads_max;
        let headroom = match (sensor, self.control.average()) {
            (SensorState::Seen(_) | SensorState::Missing, Some(average))
                if average >= aim.full_below =>
            {
                Some(aim.set_point - average)
            }
            _ => None,
        };
        let threads_allowed = if starved {
            threads_max.min(UNDER_VOLTAGE_THREADS)
        } else {
            threads_max
        };
        let demand = Demand {
            share,
            cap,
            headroom,
            threads_max,
            threads_allowed,
        };
        let spent = self.spending.spend(now, demand, &self.settings.table);
        if let Some(share) = spent.rebase {
            self.control.rebase(share);
        }
        self.limits.threads = spent.threads;
        self.limits.duty = stepped(self.limits.duty, permille(spent.duty));
        let duty = self.limits.duty;
        if duty < CHUNK_SMALL_BELOW {
            self.limits.prefill_chunk = CHUNK_SMALL;
        } else if duty >= CHUNK_FULL_FROM {
            self.limits.prefill_chunk = Limits::default().prefill_chunk;
        }
    }
}

/// Whether firmware or kernel throttle the cores because of heat. The same bits are set
/// during under-voltage; then they count only if the board is hot.
fn is_slowed(reading: &Reading, bounds: Bounds, starved: bool) -> bool {
    let is_hot = reading
        .temperature
        .is_some_and(|t| t.0 >= bounds.limit.0 - CLOSE);
    let firmware = reading.firmware.unwrap_or_default();
    let by_firmware = firmware.throttled || firmware.capped || firmware.soft_limit;
    let by_kernel = reading.frequency_cap.is_some_and(|cap| cap < SLOWED_BELOW);
    by_firmware && (is_hot || !starved) || by_kernel && is_hot
}

fn permille(share: f64) -> Permille {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    Permille((share * 1000.0).round().clamp(0.0, 1000.0) as u16)
}

/// The new duty, rounded to steps; small changes are ignored, so that the engine is not
/// notified every time.
fn stepped(old: Permille, new: Permille) -> Permille {
    let stepped = Permille((new.0 + DUTY_STEP / 2) / DUTY_STEP * DUTY_STEP);
    if stepped == Permille::FULL || old.0.abs_diff(new.0) >= DUTY_STALE {
        stepped
    } else {
        old
    }
}

#[cfg(test)]
mod tests;
