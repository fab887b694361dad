//! A board's temperature and clock over time.

use hearth_proto::units::{MilliCelsius, Permille};

use super::boards::{Board, Slowing};
use crate::governor::{Firmware, Reading, SpeedTable};

/// The state of a simulated board.
#[derive(Clone, Debug)]
pub struct Plant {
    board: Board,
    table: SpeedTable,
    ambient: f64,
    /// Temperature of the inner and outer node above the ambient, in K.
    nodes: [f64; 2],
    fan_level: usize,
    fan_works: bool,
    clock_mhz: f64,
    /// Time since firmware or kernel last checked the temperature, in s.
    since_look: f64,
}

impl Plant {
    /// The board after a long time without work, at this ambient temperature in °C.
    pub fn new(board: &Board, ambient: f64) -> Self {
        let mut plant = Self {
            board: board.clone(),
            table: SpeedTable::default(),
            ambient,
            nodes: [0.0; 2],
            fan_level: 0,
            fan_works: true,
            clock_mhz: board.clock.max,
            since_look: 0.0,
        };
        for _ in 0..10_000 {
            plant.step(1.0, board.idle_w);
        }
        plant
    }

    /// Which board this is.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Advances by `dt` seconds at `power` watts.
    pub fn step(&mut self, dt: f64, power: f64) {
        let (inner, outer) = (self.board.inner, self.board.outer);
        let r = self.outer_r();
        // The cooler's heat capacity is constant; a fan changes only its resistance.
        let tau = outer.tau * r / outer.r;
        for (node, r, tau) in [(0, inner.r, inner.tau), (1, r, tau)] {
            let x = &mut self.nodes[node];
            *x += (r * power - *x) * (1.0 - (-dt / tau).exp());
        }
        self.since_look += dt;
        if self.since_look >= 1.0 - 1e-9 {
            self.since_look = 0.0;
            self.turn_fan();
            self.set_clock();
        }
    }

    /// The silicon's temperature in °C.
    pub fn celsius(&self) -> f64 {
        self.ambient + self.nodes[0] + self.nodes[1]
    }

    /// The cores' clock in MHz.
    pub fn clock_mhz(&self) -> f64 {
        self.clock_mhz
    }

    /// Changes the ambient temperature, in °C; the cooler follows with its time constant.
    pub fn set_ambient(&mut self, celsius: f64) {
        self.nodes[1] -= celsius - self.ambient;
        self.ambient = celsius;
    }

    /// Sets whether the fan works.
    pub fn set_fan(&mut self, works: bool) {
        self.fan_works = works;
    }

    /// Decode speed in tokens/s while computing, at the current clock. Decoding is bound by
    /// memory: slower cores count as fewer cores.
    pub fn tokens_per_s(&self, threads: u32) -> f64 {
        let threads = threads.min(self.board.threads);
        let cores = f64::from(threads) * self.clock_share();
        let (mut below, mut slower, mut faster) = (0, 0.0, self.table.speed(1));
        while f64::from(below + 1) < cores {
            below += 1;
            slower = self.table.speed(below);
            faster = self.table.speed(below + 1);
        }
        let share = slower + (faster - slower) * (cores - f64::from(below));
        share / self.table.speed(self.board.threads) * self.board.tokens_per_s
    }

    /// Power in W with this many threads computing for this share of the time.
    pub fn power(&self, threads: u32, duty: f64) -> f64 {
        let board = &self.board;
        let clock = board.clock;
        let volts = clock.volts_min
            + (1.0 - clock.volts_min) * (self.clock_mhz - clock.min) / (clock.max - clock.min);
        let cores = f64::from(threads.min(board.threads))
            * board.thread_w
            * self.clock_share()
            * volts
            * volts;
        let traffic = self.tokens_per_s(threads) / board.tokens_per_s;
        board.idle_w + duty * (cores + board.memory_w * traffic)
    }

    /// The sensors' reading of it.
    pub fn reading(&self) -> Reading {
        let step = f64::from(self.board.sensor_step.0);
        let milli = (self.celsius() * 1000.0 / step).round() * step;
        #[expect(clippy::cast_possible_truncation, reason = "a temperature")]
        let temperature = MilliCelsius(milli as i32);
        let mut reading = Reading {
            temperature: Some(temperature),
            critical_trip: Some(self.board.critical),
            ..Reading::default()
        };
        let is_slow = self.clock_mhz < self.board.clock.max;
        match self.board.clock.slowing {
            Slowing::Firmware { from, soft, .. } => {
                let is_hot = self.celsius() >= from;
                reading.firmware_limit = Some(MilliCelsius(85_000));
                reading.firmware = Some(Firmware {
                    capped: is_slow && is_hot,
                    throttled: is_slow && is_hot,
                    soft_limit: is_slow && soft.is_some(),
                    ..Firmware::default()
                });
            }
            Slowing::Kernel { trip } => {
                #[expect(clippy::cast_possible_truncation, reason = "a temperature")]
                let trip = MilliCelsius((trip * 1000.0) as i32);
                reading.passive_trip = Some(trip);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a share"
                )]
                let cap = Permille((self.clock_share() * 1000.0) as u16);
                reading.frequency_cap = Some(cap);
            }
        }
        reading
    }

    fn clock_share(&self) -> f64 {
        self.clock_mhz / self.board.clock.max
    }

    fn outer_r(&self) -> f64 {
        let Some(fan) = self.board.fan else {
            return self.board.outer.r;
        };
        let level = if self.fan_works { self.fan_level } else { 0 };
        fan.r.get(level).copied().unwrap_or(self.board.outer.r)
    }

    fn turn_fan(&mut self) {
        let Some(fan) = self.board.fan else { return };
        let celsius = self.celsius();
        let above = |slack: f64| fan.steps.iter().filter(|t| celsius >= **t - slack).count();
        self.fan_level = self.fan_level.max(above(0.0)).min(above(fan.hysteresis));
    }

    fn set_clock(&mut self) {
        let clock = self.board.clock;
        let celsius = self.celsius();
        self.clock_mhz = match clock.slowing {
            Slowing::Firmware { from, to, soft } => {
                let share = ((to - celsius) / (to - from)).clamp(0.0, 1.0);
                let wanted = clock.min + (clock.max - clock.min) * share;
                let stepped = (wanted / clock.step).ceil() * clock.step;
                match soft {
                    Some((at, mhz)) if celsius >= at => stepped.min(mhz),
                    _ => stepped,
                }
            }
            Slowing::Kernel { trip } if celsius >= trip => {
                (self.clock_mhz - clock.step).max(clock.min)
            }
            Slowing::Kernel { .. } => (self.clock_mhz + clock.step).min(clock.max),
        };
    }
}
