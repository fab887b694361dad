use proptest::prelude::*;

use super::*;

fn settings(policy: Policy) -> GovernorSettings {
    GovernorSettings {
        policy,
        threads_max: 4,
        ..GovernorSettings::default()
    }
}

fn balanced() -> Governor {
    Governor::new(settings(Policy::Balanced))
}

fn at(celsius: i32) -> Reading {
    Reading {
        temperature: Some(MilliCelsius(celsius * 1000)),
        passive_trip: Some(MilliCelsius(80_000)),
        ..Reading::default()
    }
}

/// Passes one reading per second to the governor; returns the last verdict.
fn hold(governor: &mut Governor, from: u64, seconds: u64, reading: &Reading) -> Verdict {
    let mut verdict = governor.observe(Duration::from_secs(from), reading);
    for s in from + 1..from + seconds {
        verdict = governor.observe(Duration::from_secs(s), reading);
    }
    verdict
}

#[test]
fn a_cool_board_has_all_threads() {
    let verdict = hold(&mut balanced(), 0, 60, &at(64));
    assert_eq!(verdict.limits.threads, 4);
    assert_eq!(verdict.limits.duty, Permille::FULL);
    assert!(!verdict.limits.paused);
    assert_eq!(verdict.share, Permille::FULL);
    assert_eq!(verdict.reason, "");
    assert_eq!(verdict.temperature_limit, Some(MilliCelsius(80_000)));
    assert_eq!(verdict.look_again, Duration::from_secs(1));
}

#[test]
fn at_the_temperature_limit_work_is_reduced_with_a_reason() {
    let verdict = hold(&mut balanced(), 0, 90, &at(80));
    assert_eq!(verdict.thermal, ThermalState::Limit);
    assert_eq!(verdict.limits.threads, 3);
    assert_eq!(verdict.reason, "80.0 °C, limit 80.0 °C: 3 of 4 threads");
    assert_eq!(verdict.look_again, Duration::from_millis(500));
    let verdict = hold(&mut balanced(), 0, 900, &at(81));
    assert_eq!(verdict.limits.threads, 1);
    assert!(verdict.limits.duty < Permille(700));
    assert_eq!(verdict.limits.prefill_chunk, 64);
}

#[test]
fn an_emergency_pauses_until_the_board_is_cool() {
    let mut governor = balanced();
    let verdict = hold(&mut governor, 0, 10, &at(90));
    assert!(verdict.limits.paused);
    assert_eq!(verdict.retry_after, Some(Duration::from_secs(30)));
    assert!(
        verdict.reason.contains("try again in 30 s"),
        "{}",
        verdict.reason
    );
    let verdict = hold(&mut governor, 10, 25, &at(76));
    assert!(!verdict.limits.paused);
    assert_eq!(verdict.retry_after, None);
    assert!(verdict.share < Permille(500), "{verdict:?}");
    let verdict = hold(&mut governor, 35, 60, &at(50));
    assert_eq!(verdict.thermal, ThermalState::Cool);
    assert_eq!((verdict.limits.threads, verdict.reason.as_str()), (4, ""));
}

#[test]
fn a_board_without_sensors_is_not_limited() {
    let mut governor = balanced();
    let verdict = hold(&mut governor, 0, 60, &Reading::default());
    assert_eq!(
        (verdict.limits.threads, verdict.limits.duty),
        (4, Permille::FULL)
    );
    assert_eq!(verdict.temperature_limit, None);
    assert_eq!(
        (verdict.reason.as_str(), verdict.memory),
        ("", MemoryState::Normal)
    );
}

#[test]
fn a_lost_sensor_halves_the_work_after_a_grace_period() {
    for every in [1, 5] {
        let mut governor = balanced();
        governor.observe(Duration::ZERO, &at(50));
        let blink = governor.observe(Duration::from_secs(every), &Reading::default());
        assert_eq!((blink.limits.threads, blink.reason.as_str()), (4, ""));
        let mut lost = blink;
        for n in 2..12 {
            lost = governor.observe(Duration::from_secs(n * every), &Reading::default());
        }
        assert_eq!(lost.limits.threads, 2, "every {every} s");
        assert_eq!(
            lost.reason,
            "the temperature cannot be read any more: 2 of 4 threads"
        );
        let back = hold(&mut governor, 100, 30, &at(50));
        assert_eq!((back.limits.threads, back.reason.as_str()), (4, ""));
    }
}

#[test]
fn a_pause_ends_although_the_sensor_is_gone() {
    let mut governor = balanced();
    hold(&mut governor, 0, 10, &at(90));
    assert!(
        hold(&mut governor, 10, 50, &Reading::default())
            .limits
            .paused
    );
    let verdict = hold(&mut governor, 60, 20, &Reading::default());
    assert!(!verdict.limits.paused);
    assert!(verdict.share <= Permille(500));
}

#[test]
fn under_voltage_holds_two_threads_for_a_minute() {
    let mut governor = balanced();
    hold(&mut governor, 0, 20, &at(50));
    let low = Reading {
        firmware: Some(Firmware {
            under_voltage: true,
            capped: true,
            ..Firmware::default()
        }),
        ..at(50)
    };
    let verdict = governor.observe(Duration::from_secs(20), &low);
    assert_eq!(verdict.limits.threads, 2);
    assert_eq!(verdict.thermal, ThermalState::Cool, "not a matter of heat");
    assert!(
        verdict.reason.contains("power supply"),
        "{}",
        verdict.reason
    );
    assert_eq!(hold(&mut governor, 21, 58, &at(50)).limits.threads, 2);
    let verdict = hold(&mut governor, 80, 2, &at(50));
    assert_eq!((verdict.limits.threads, verdict.reason.as_str()), (4, ""));
}

#[test]
fn slowed_cores_raise_the_state_and_say_so() {
    let throttled = Some(Firmware {
        throttled: true,
        ..Firmware::default()
    });
    let hot = Reading {
        frequency_cap: Some(Permille(700)),
        ..at(76)
    };
    let cool = Reading {
        frequency_cap: Some(Permille(700)),
        ..at(50)
    };
    let bits = Reading {
        firmware: throttled,
        ..at(72)
    };
    for (reading, state) in [
        (hot, ThermalState::Limit),
        (cool, ThermalState::Cool),
        (bits, ThermalState::Limit),
    ] {
        let verdict = hold(&mut balanced(), 0, 10, &reading);
        assert_eq!(verdict.thermal, state, "{reading:?}");
        let says = verdict.reason.contains("slows its cores");
        assert_eq!(says, state == ThermalState::Limit, "{}", verdict.reason);
    }
}

#[test]
fn each_power_policy_has_its_own_limits() {
    // A degree above the limit: left to the firmware under `throughput`.
    let verdict = hold(
        &mut Governor::new(settings(Policy::Throughput)),
        0,
        300,
        &at(81),
    );
    assert_eq!(
        (verdict.limits.threads, verdict.limits.duty),
        (4, Permille::FULL)
    );
    let verdict = hold(
        &mut Governor::new(settings(Policy::Throughput)),
        0,
        120,
        &at(85),
    );
    assert!(verdict.limits.threads < 4 && !verdict.limits.paused);

    let quiet = Policy::Quiet { power_percent: 60 };
    let verdict = hold(&mut Governor::new(settings(quiet)), 0, 60, &at(40));
    assert_eq!((verdict.limits.threads, verdict.share), (2, Permille(600)));
    assert_eq!(
        verdict.reason,
        "policy quiet, at most 60 % of the computing power: 2 of 4 threads"
    );
    let unknown = hold(
        &mut Governor::new(settings(quiet)),
        0,
        60,
        &Reading::default(),
    );
    assert_eq!(unknown.limits.threads, 2, "a cap needs no sensor");
}

#[test]
fn new_settings_apply_from_the_next_reading() {
    let mut governor = balanced();
    hold(&mut governor, 0, 60, &at(60));
    governor.set_settings(GovernorSettings {
        temperature_limit: Some(MilliCelsius(60_000)),
        ..settings(Policy::Balanced)
    });
    let verdict = hold(&mut governor, 60, 60, &at(60));
    assert_eq!(verdict.temperature_limit, Some(MilliCelsius(60_000)));
    assert!(
        verdict.reason.starts_with("60.0 °C, limit 60.0 °C"),
        "{}",
        verdict.reason
    );
}

proptest! {
    /// For any readings the limits are valid, and fewer threads have a reason.
    #[test]
    fn limits_stay_within_the_boards_range(
        samples in prop::collection::vec(
            (100u64..6000, prop::option::weighted(0.9, -20_000i32..120_000), any::<[bool; 4]>()), 200),
        threads_max in 0u32..12,
        percent in any::<u8>(),
    ) {
        for policy in [Policy::Balanced, Policy::Throughput, Policy::Quiet { power_percent: percent }] {
            let mut governor = Governor::new(GovernorSettings { threads_max, ..settings(policy) });
            let mut now = Duration::ZERO;
            for (ms, temperature, [under_voltage, capped, throttled, soft_limit]) in &samples {
                now += Duration::from_millis(*ms);
                let verdict = governor.observe(now, &Reading {
                    temperature: temperature.map(MilliCelsius),
                    firmware: Some(Firmware {
                        under_voltage: *under_voltage, capped: *capped,
                        throttled: *throttled, soft_limit: *soft_limit,
                    }),
                    ..Reading::default()
                });
                let limits = verdict.limits;
                prop_assert!((1..=threads_max.max(1)).contains(&limits.threads));
                prop_assert!((50..=1000).contains(&limits.duty.0));
                prop_assert!(limits.prefill_chunk == 64 || limits.prefill_chunk == 128);
                prop_assert_eq!(limits.paused, verdict.retry_after.is_some());
                let full = limits.threads == threads_max.max(1) && !limits.paused;
                prop_assert!(full || !verdict.reason.is_empty());
            }
        }
    }
}
