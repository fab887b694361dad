//! The boards by name, and their parameters.

use hearth_proto::units::MilliCelsius;

/// One board with its cooling.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// Name on the command line.
    pub name: &'static str,
    /// Description.
    pub about: &'static str,
    /// Big cores.
    pub threads: u32,
    /// Power without work, in W.
    pub idle_w: f64,
    /// Power of one computing thread at full clock, in W.
    pub thread_w: f64,
    /// Power of the memory at full decode speed, in W.
    pub memory_w: f64,
    /// Decode speed with all threads at full clock, in tokens/s.
    pub tokens_per_s: f64,
    /// Thermal node from silicon to the cooler.
    pub inner: Node,
    /// Thermal node from the cooler to the air.
    pub outer: Node,
    /// The fan, which changes the outer node's resistance.
    pub fan: Option<Fan>,
    /// The clock of the cores.
    pub clock: Clock,
    /// Step of the temperature sensor (`coefficients` in the device trees).
    pub sensor_step: MilliCelsius,
    /// The kernel's critical trip point.
    pub critical: MilliCelsius,
}

/// One node of a thermal plant: dx/dt = (R·P - x)/tau.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// Thermal resistance in K/W.
    pub r: f64,
    /// Time constant in s.
    pub tau: f64,
}

/// A fan with steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fan {
    /// Temperatures at which the steps switch on, in °C.
    pub steps: [f64; 4],
    /// Hysteresis for switching off, in K.
    pub hysteresis: f64,
    /// Resistance of the outer node with the fan off and at each step, in K/W.
    pub r: [f64; 5],
}

/// The clock of the cores, and what throttles it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    /// Maximum, in MHz.
    pub max: f64,
    /// Minimum, in MHz.
    pub min: f64,
    /// Step, in MHz.
    pub step: f64,
    /// Voltage at `min` as a share of that at `max`.
    pub volts_min: f64,
    /// What throttles it.
    pub slowing: Slowing,
}

/// What throttles the cores, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slowing {
    /// A Raspberry Pi's firmware: progressively from the first temperature to the
    /// second (Raspberry Pi documentation, "Frequency management and thermal control").
    Firmware {
        /// Full clock below this, in °C.
        from: f64,
        /// Minimum clock from this on, in °C.
        to: f64,
        /// The Pi 3B+'s soft limit: from this temperature (°C) on, at most this clock (MHz).
        soft: Option<(f64, f64)>,
    },
    /// The kernel's `step_wise` governor at a passive trip point, in °C.
    Kernel {
        /// The trip point.
        trip: f64,
    },
}

const PI_FIRMWARE: Slowing = Slowing::Firmware {
    from: 80.0,
    to: 85.0,
    soft: None,
};
const PI4_CLOCK: Clock = Clock {
    max: 1500.0,
    min: 600.0,
    step: 100.0,
    volts_min: 0.85,
    slowing: PI_FIRMWARE,
};
const PI5_CLOCK: Clock = Clock {
    max: 2400.0,
    min: 1500.0,
    step: 100.0,
    volts_min: 0.85,
    slowing: PI_FIRMWARE,
};

/// A Pi 4: P = 3.06 + 0.77 n.
const PI4: Board = Board {
    name: "pi4-poor",
    about: "Raspberry Pi 4, bare in a closed case",
    threads: 4,
    idle_w: 3.06,
    thread_w: 0.77,
    memory_w: 0.0,
    tokens_per_s: 3.0,
    inner: Node { r: 2.0, tau: 3.0 },
    outer: Node {
        r: 11.0,
        tau: 300.0,
    },
    fan: None,
    clock: PI4_CLOCK,
    sensor_step: MilliCelsius(487),
    critical: MilliCelsius(90_000),
};

/// A Pi 5: P = 2.7 + 0.72 n + 0.9 (memory traffic).
const PI5: Board = Board {
    name: "pi5-bare",
    about: "Raspberry Pi 5, bare on a desk (thermal figures assumed)",
    threads: 4,
    idle_w: 2.7,
    thread_w: 0.72,
    memory_w: 0.9,
    tokens_per_s: 25.8,
    inner: Node { r: 2.0, tau: 8.0 },
    outer: Node { r: 8.5, tau: 250.0 },
    fan: None,
    clock: PI5_CLOCK,
    sensor_step: MilliCelsius(550),
    critical: MilliCelsius(110_000),
};

/// All simulated boards.
pub const BOARDS: [Board; 6] = [
    // Power, nodes and speed are assumed, from 1.9 W idle and about 5 W under load.
    Board {
        name: "pi3b-plus",
        about: "Raspberry Pi 3B+, bare (power and thermal figures assumed)",
        idle_w: 2.3,
        thread_w: 0.72,
        tokens_per_s: 1.5,
        inner: Node { r: 2.0, tau: 5.0 },
        outer: Node { r: 9.0, tau: 300.0 },
        clock: Clock {
            max: 1400.0,
            min: 600.0,
            step: 100.0,
            volts_min: 0.88,
            slowing: Slowing::Firmware {
                from: 80.0,
                to: 85.0,
                soft: Some((60.0, 1200.0)),
            },
        },
        sensor_step: MilliCelsius(538),
        ..PI4
    },
    PI4,
    Board {
        name: "pi4-heatsink",
        about: "Raspberry Pi 4 with a heatsink",
        inner: Node { r: 1.6, tau: 3.0 },
        outer: Node { r: 5.5, tau: 400.0 },
        ..PI4
    },
    Board {
        name: "pi5-fan",
        about: "Raspberry Pi 5 with the Active Cooler (slow fan steps assumed)",
        inner: Node { r: 2.0, tau: 15.0 },
        outer: Node { r: 2.0, tau: 40.0 },
        // The trip points of bcm2712-rpi-5-b.dts.
        fan: Some(Fan {
            steps: [50.0, 60.0, 67.5, 75.0],
            hysteresis: 5.0,
            r: [6.5, 4.0, 3.0, 2.5, 2.0],
        }),
        ..PI5
    },
    PI5,
    // A Turing RK1 with a passive cooler: 4.5 W idle, 68 to 74 °C at 10 to 12 W; four
    // big cores only, nodes assumed so that they match these values.
    Board {
        name: "rk3588",
        about: "RK3588 module, passive cooler (figures fitted to one report)",
        threads: 4,
        idle_w: 4.5,
        thread_w: 1.2,
        memory_w: 1.2,
        tokens_per_s: 6.0,
        inner: Node { r: 1.2, tau: 6.0 },
        outer: Node { r: 3.2, tau: 350.0 },
        fan: None,
        clock: Clock {
            max: 2400.0,
            min: 1200.0,
            step: 200.0,
            volts_min: 0.75,
            slowing: Slowing::Kernel { trip: 85.0 },
        },
        sensor_step: MilliCelsius(924),
        critical: MilliCelsius(115_000),
    },
];

/// The board with this name.
pub fn board(name: &str) -> Option<&'static Board> {
    static ALL: [Board; 6] = BOARDS;
    ALL.iter().find(|board| board.name == name)
}

/// Parses an ambient temperature, in °C.
///
/// # Errors
/// A message with the expected format.
pub fn ambient_celsius(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if (-40.0..=70.0).contains(&t) => Ok(t),
        _ => Err("air is a number of degrees from -40 to 70".to_owned()),
    }
}
