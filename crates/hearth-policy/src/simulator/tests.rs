use std::time::Duration;

use super::trace::changes;
use super::*;
use crate::governor::{Policy, ThermalState};

const QUIET: Policy = Policy::Quiet { power_percent: 60 };
/// After this time a run without events is in steady state.
const SETTLED: Duration = Duration::from_mins(20);

fn run(name: &str, ambient: f64, control: Control, hours: u64, events: &[&str]) -> Trace {
    let events: Vec<Event> = events.iter().map(|e| e.parse().unwrap()).collect();
    simulate(&Run {
        board: board(name).unwrap(),
        ambient,
        control,
        duration: Duration::from_hours(hours),
        events: &events,
    })
}

fn governed(name: &str, ambient: f64, policy: Policy, events: &[&str]) -> Trace {
    run(name, ambient, Control::Governor(policy), 3, events)
}

/// Highest temperature of these rows.
fn hottest(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.celsius).fold(f64::MIN, f64::max)
}

/// Largest difference of the temperature within any ten minutes without a trial of more
/// threads.
fn swing(rows: &[Row]) -> f64 {
    let window = |rows: &[Row]| {
        let low = rows.iter().map(|row| row.celsius).fold(f64::MAX, f64::min);
        hottest(rows) - low
    };
    rows.windows(600)
        .step_by(60)
        .map(window)
        .fold(0.0, f64::max)
}

/// Most thread changes within any hour.
fn changes_an_hour(rows: &[Row]) -> u32 {
    let threads = |rows: &[Row]| changes(rows, |a, b| a.threads != b.threads);
    rows.windows(3600)
        .step_by(60)
        .map(threads)
        .max()
        .unwrap_or_else(|| threads(rows))
}

/// Boards with ambient temperatures at which their limit can be kept: without work they
/// are at least 10 K below it.
fn places() -> Vec<(&'static str, f64)> {
    let mut places = Vec::new();
    for board in &BOARDS {
        for ambient in [0.0, 10.0, 22.0, 25.0, 28.0, 32.0, 40.0, 45.0, 50.0] {
            let idle = Plant::new(board, ambient);
            let limit = match idle.reading().passive_trip {
                Some(trip) => trip.celsius(),
                None => 80.0,
            };
            if idle.celsius() < limit - 10.0 {
                places.push((board.name, ambient));
            }
        }
    }
    assert!(places.len() > 40, "{places:?}");
    places
}

#[test]
fn the_limit_holds_and_nothing_flaps_on_any_board() {
    for (name, ambient) in places() {
        for (policy, over) in [
            (Policy::Balanced, 3.0),
            (QUIET, 3.0),
            (Policy::Throughput, 5.0),
        ] {
            let trace = governed(name, ambient, policy, &[]);
            let what = format!("{name} at {ambient} °C, {}", policy.as_str());
            let limit = trace.limit.celsius();
            let summary = trace.summary();
            assert!(summary.celsius_max <= limit + over, "{what}: {summary:?}");
            let settled = trace.after(SETTLED);
            let changes = changes_an_hour(settled);
            assert!(
                changes <= 12,
                "{what}: {changes} changes of threads an hour"
            );
            let lines = changes_of_reason(settled);
            assert!(lines <= 20, "{what}: {lines} lines in the journal");
            // Oscillation from a fan's own steps is not the governor's.
            let last = settled.last().unwrap();
            if name != "pi5-fan" || last.state >= ThermalState::Limit {
                let late = trace.after(Duration::from_hours(1));
                assert!(swing(late) <= 1.5, "{what}: swings by {:.1} K", swing(late));
            }
        }
    }
}

fn changes_of_reason(rows: &[Row]) -> u32 {
    changes(rows, |a, b| a.reason != b.reason)
}

#[test]
fn below_the_band_a_board_runs_at_full_speed() {
    for (name, ambient) in places() {
        let trace = governed(name, ambient, Policy::Balanced, &[]);
        let full_below = trace.limit.celsius() - 15.0;
        // From the first rise into the band on the controller is responsible.
        let cold = trace
            .rows
            .iter()
            .take_while(|r| r.celsius < full_below - 0.5);
        for row in cold {
            assert_eq!(
                row.threads, trace.threads_max,
                "{name} at {ambient}: {row:?}"
            );
            assert_eq!(row.duty.0, 1000, "{name} at {ambient}: {row:?}");
        }
    }
}

/// The shares of docs/governor.md, and those of the firmware alone in the same hour.
#[test]
fn known_boards_reach_their_share_of_tokens() {
    let mut table = Vec::new();
    for (name, ambient, least) in [
        ("pi4-poor", 25.0, 0.45),
        ("pi4-heatsink", 40.0, 0.95),
        ("pi5-bare", 22.0, 0.83),
        ("pi5-bare", 32.0, 0.55),
    ] {
        let share = |control| run(name, ambient, control, 1, &[]).summary();
        let ours = share(Control::Governor(Policy::Balanced));
        let firmware = share(Control::FirmwareOnly);
        assert!(ours.share >= least, "{name} at {ambient} °C: {ours:?}");
        // A lower clock costs less throughput for the same heat, so the firmware's share is
        // higher.
        assert!(firmware.share > ours.share);
        assert!(firmware.celsius_settled > ours.celsius_settled + 2.0);
        table.push(format!(
            "{name:13} {ambient:.0} °C  balanced {:.2} at {:.1} °C  firmware {:.2} at {:.1} °C",
            ours.share, ours.celsius_settled, firmware.share, firmware.celsius_settled
        ));
    }
    println!("{}", table.join("\n"));
}

#[test]
fn the_throughput_policy_is_as_fast_as_the_firmware_below_its_trip_point() {
    for (name, ambient) in [
        ("pi4-heatsink", 40.0),
        ("pi5-bare", 22.0),
        ("pi3b-plus", 32.0),
    ] {
        let firmware = run(name, ambient, Control::FirmwareOnly, 1, &[]).summary();
        let ours = run(name, ambient, Control::Governor(Policy::Throughput), 1, &[]).summary();
        assert!(
            ours.share > firmware.share - 0.005,
            "{name}: {ours:?} {firmware:?}"
        );
    }
}

#[test]
fn the_quiet_policy_is_cooler_and_stays_within_its_share() {
    for (name, ambient) in places() {
        let balanced = governed(name, ambient, Policy::Balanced, &[]).summary();
        let trace = governed(name, ambient, QUIET, &[]);
        let power = |row: &Row| f64::from(row.threads) * f64::from(row.duty.0) / 4000.0;
        assert!(
            trace
                .after(Duration::from_secs(2))
                .iter()
                .all(|row| power(row) <= 0.606)
        );
        assert!(
            trace.summary().celsius_max <= balanced.celsius_max + 0.1,
            "{name} at {ambient}"
        );
    }
}

#[test]
fn the_work_follows_the_ambient_temperature() {
    for (name, ambient) in [
        ("pi4-poor", 22.0),
        ("pi4-heatsink", 35.0),
        ("pi5-bare", 25.0),
    ] {
        let events = ["ambient+10@1h", "ambient-10@2h"];
        let trace = governed(name, ambient, Policy::Balanced, &events);
        assert!(
            trace.summary().celsius_max <= trace.limit.celsius() + 3.0,
            "{name}"
        );
        let tokens = |from: u64| -> f64 {
            let rows = trace.after(Duration::from_mins(from));
            rows.iter().take(1800).map(|row| row.tokens_per_s).sum()
        };
        assert!(tokens(90) < tokens(30) * 0.95, "{name}: less in warm air");
        assert!(tokens(150) > tokens(30) * 0.97, "{name}: all of it back");
    }
}

#[test]
fn the_limit_holds_after_a_fan_failure() {
    let events = ["fan-fails@1h", "fan-returns@2h"];
    let trace = governed("pi5-fan", 38.0, Policy::Balanced, &events);
    assert!(trace.summary().celsius_max <= trace.limit.celsius() + 3.0);
    let before_return = &trace.rows[7190];
    assert!(
        before_return.state >= ThermalState::Limit,
        "{before_return:?}"
    );
    assert!(
        before_return.reason.contains("limit 80.0 °C"),
        "{before_return:?}"
    );
    let last = trace.rows.last().unwrap();
    assert_eq!(
        (last.threads, last.duty.0, last.reason.as_str()),
        (4, 1000, "")
    );
}

#[test]
fn a_lost_sensor_halves_the_work_until_it_is_back() {
    let events = ["sensor-lost@60m", "sensor-returns@90m"];
    let trace = governed("pi4-heatsink", 22.0, Policy::Balanced, &events);
    assert_eq!(
        (trace.rows[3603].threads, trace.rows[3603].reason.as_str()),
        (4, "")
    );
    assert_eq!(trace.rows[3640].threads, 2);
    assert!(
        trace.rows[5390].reason.contains("cannot be read"),
        "{:?}",
        trace.rows[5390]
    );
    assert_eq!(trace.rows.last().unwrap().threads, 4);
    // On a board at its limit half the work can still be too much: a governor without a
    // sensor cannot do more, and the firmware still throttles.
    let trace = governed("pi4-poor", 25.0, Policy::Balanced, &events);
    assert!(trace.summary().celsius_max <= 88.0, "{:?}", trace.summary());
}

#[test]
fn under_voltage_takes_two_threads_for_a_minute() {
    let trace = governed("pi5-fan", 22.0, Policy::Balanced, &["under-voltage@30m"]);
    let low: Vec<&Row> = trace.rows.iter().filter(|row| row.threads == 2).collect();
    assert!((59..=63).contains(&low.len()), "{} s", low.len());
    assert!(low.iter().all(|row| row.reason.contains("power supply")));
}

#[test]
fn flipping_throttle_bits_change_the_state_and_not_the_work() {
    let calm = governed("pi4-heatsink", 30.0, Policy::Balanced, &[]);
    let flips = governed(
        "pi4-heatsink",
        30.0,
        Policy::Balanced,
        &["throttle-flips@1h"],
    );
    assert!((calm.summary().tokens - flips.summary().tokens).abs() < 1e-6);
    assert_eq!(
        flips.summary().reasons,
        2,
        "one line when it begins, one when it ends"
    );
    assert!(
        flips.rows[3650].reason.contains("slows its cores"),
        "{:?}",
        flips.rows[3650]
    );
}

#[test]
fn a_slow_token_takes_only_its_own_time() {
    for at in ["slow-token@5s", "slow-token@90m"] {
        let calm = governed("pi4-poor", 25.0, Policy::Balanced, &[]).summary();
        let slow = governed("pi4-poor", 25.0, Policy::Balanced, &[at]).summary();
        assert!(slow.celsius_max <= calm.celsius_max + 0.5, "{at}: {slow:?}");
        // 5 s and the pause that follows, of 10 800 s.
        assert!(slow.tokens > calm.tokens * 0.997, "{at}: {slow:?} {calm:?}");
    }
}

#[test]
fn a_board_settles_at_its_computed_temperature() {
    for (name, watts, kelvin) in [
        ("pi4-poor", 6.14, 79.82),
        ("pi4-heatsink", 6.14, 43.594),
        ("pi5-bare", 6.48, 68.04),
    ] {
        let mut plant = Plant::new(board(name).unwrap(), 20.0);
        assert!((plant.power(4, 1.0) - watts).abs() < 1e-9, "{name}");
        for _ in 0..20_000 {
            plant.step(0.5, watts);
        }
        assert!((plant.celsius() - 20.0 - kelvin).abs() < 0.01, "{name}");
    }
}

#[test]
fn the_time_step_does_not_change_the_result() {
    let after_10_min = |dt: f64, steps: u32| {
        let mut plant = Plant::new(board("pi4-poor").unwrap(), 20.0);
        (0..steps).for_each(|_| plant.step(dt, 5.0));
        plant.celsius()
    };
    assert!((after_10_min(0.5, 1200) - after_10_min(2.0, 300)).abs() < 1e-6);
}
