//! Simulates a board under full load, with or without the governor.

use std::time::Duration;

use hearth_proto::Limits;
use hearth_proto::units::{MilliCelsius, Permille};

use super::boards::Board;
use super::event::{Event, What};
use super::plant::Plant;
use super::trace::{Row, Trace};
use crate::governor::{
    Firmware, Governor, GovernorSettings, Policy, Reading, SpeedTable, ThermalState,
};

/// Half a second: the shortest interval between two readings.
const STEP: Duration = Duration::from_millis(500);
const STEP_S: f64 = 0.5;
/// How long the throttle bits flip.
const FLIPS_FOR: Duration = Duration::from_mins(1);
/// Duration of a slow token.
const SLOW_TOKEN: Duration = Duration::from_secs(5);

/// What controls the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The governor, with a policy.
    Governor(Policy),
    /// Only firmware or kernel.
    FirmwareOnly,
}

/// Parameters of a simulation.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The board.
    pub board: &'a Board,
    /// Ambient temperature in °C.
    pub ambient: f64,
    /// What controls the board.
    pub control: Control,
    /// Duration; it starts with a board that has been without work.
    pub duration: Duration,
    /// Events during the run.
    pub events: &'a [Event],
}

/// The state that results from the events.
#[derive(Debug)]
struct World {
    plant: Plant,
    ambient: f64,
    sensor_works: bool,
    under_voltage_until: Duration,
    flips_until: Duration,
    /// A slow token is computed until the first; the pause after it lasts until the second.
    slow_until: (Duration, Duration),
}

impl World {
    fn new(run: &Run) -> Self {
        Self {
            plant: Plant::new(run.board, run.ambient),
            ambient: run.ambient,
            sensor_works: true,
            under_voltage_until: Duration::ZERO,
            flips_until: Duration::ZERO,
            slow_until: (Duration::ZERO, Duration::ZERO),
        }
    }

    fn apply(&mut self, now: Duration, what: What, duty: f64) {
        match what {
            What::FanFails => self.plant.set_fan(false),
            What::FanReturns => self.plant.set_fan(true),
            What::SensorLost => self.sensor_works = false,
            What::SensorReturns => self.sensor_works = true,
            What::Ambient(by) => {
                self.ambient += by;
                self.plant.set_ambient(self.ambient);
            }
            What::UnderVoltage => self.under_voltage_until = now + Duration::from_secs(1),
            What::ThrottleFlips => self.flips_until = now + FLIPS_FOR,
            What::SlowToken => {
                let rest = SLOW_TOKEN.mul_f64((1.0 - duty) / duty);
                self.slow_until = (now + SLOW_TOKEN, now + SLOW_TOKEN + rest);
            }
        }
    }

    fn reading(&self, now: Duration) -> Reading {
        let mut reading = self.plant.reading();
        if !self.sensor_works {
            reading.temperature = None;
        }
        if now < self.under_voltage_until {
            let firmware = reading.firmware.unwrap_or_default();
            reading.firmware = Some(Firmware {
                under_voltage: true,
                ..firmware
            });
        }
        if now < self.flips_until {
            let on = now.as_secs().is_multiple_of(2);
            let firmware = reading.firmware.unwrap_or_default();
            reading.firmware = Some(Firmware {
                throttled: on,
                capped: on,
                ..firmware
            });
        }
        reading
    }

    /// Advances by one step; returns the tokens computed in it.
    fn step(&mut self, now: Duration, limits: Limits) -> f64 {
        let duty = f64::from(limits.duty.0) / 1000.0;
        let duty = if limits.paused { 0.0 } else { duty };
        let (waits, rests) = (now < self.slow_until.0, now < self.slow_until.1);
        let duty = if waits || rests { 0.0 } else { duty };
        let tokens = self.plant.tokens_per_s(limits.threads) * duty * STEP_S;
        self.plant
            .step(STEP_S, self.plant.power(limits.threads, duty));
        tokens
    }
}

/// The governor of a run.
fn governor(run: &Run) -> Governor {
    let policy = match run.control {
        Control::Governor(policy) => policy,
        Control::FirmwareOnly => Policy::default(),
    };
    Governor::new(GovernorSettings {
        policy,
        threads_max: run.board.threads,
        temperature_limit: None,
        table: SpeedTable::default(),
        threads_useful: None,
    })
}

/// Runs a simulation; one row per second.
pub fn simulate(run: &Run) -> Trace {
    let board = run.board;
    let mut governor = governor(run);
    let mut world = World::new(run);
    let mut events = run.events.to_vec();
    events.sort_by_key(|event| event.at);
    let mut events = events.into_iter().peekable();

    let mut limits = Limits {
        threads: board.threads,
        ..Limits::default()
    };
    let mut trace = Trace::new(board);
    let (mut state, mut reason, mut share) = (ThermalState::Cool, String::new(), Permille::FULL);
    let mut look_at = Duration::ZERO;
    let mut now = Duration::ZERO;
    let mut tokens = 0.0;
    while now < run.duration {
        while let Some(event) = events.next_if(|event| event.at <= now) {
            world.apply(now, event.what, f64::from(limits.duty.0) / 1000.0);
        }
        // The governor's decision applies from the next step on.
        let obeyed = limits;
        if now >= look_at {
            let verdict = governor.observe(now, &world.reading(now));
            look_at = now + verdict.look_again;
            if run.control != Control::FirmwareOnly {
                limits = verdict.limits;
                reason = verdict.reason;
                share = verdict.share;
            }
            state = verdict.thermal;
            if let Some(limit) = verdict.temperature_limit {
                trace.limit = limit;
            }
        }
        tokens += world.step(now, obeyed);
        now += STEP;
        if now.subsec_millis() == 0 {
            trace.rows.push(Row {
                at: now,
                celsius: world.plant.celsius(),
                threads: if obeyed.paused { 0 } else { obeyed.threads },
                duty: obeyed.duty,
                share,
                clock_mhz: world.plant.clock_mhz(),
                tokens_per_s: std::mem::take(&mut tokens),
                state,
                reason: reason.clone(),
            });
        }
    }
    trace
}

impl Trace {
    fn new(board: &Board) -> Self {
        Self {
            rows: Vec::new(),
            limit: MilliCelsius(85_000),
            threads_max: board.threads,
            full_tokens_per_s: board.tokens_per_s,
            full_mhz: board.clock.max,
        }
    }
}
