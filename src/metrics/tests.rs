use std::time::Duration;

use hearth_proto::RequestId;

use super::*;
use crate::caller::{Caller, Principal};

#[test]
fn the_number_of_users_with_series_is_limited() {
    let metrics = Metrics::default();
    for uid in (1000..1000 + 40).chain([1000]) {
        metrics.computed(Some(uid), 2);
    }
    metrics.computed(None, 3);
    metrics.computed(Some(Principal::Anonymous.uid()), 5);
    let labels = |user| metrics.user(user).uid;
    assert_eq!(labels(Some(1031)), "1031");
    assert_eq!(labels(Some(1032)), "other");
    let count = |label: &str| {
        let uid = label.to_owned();
        metrics.user_tokens.get_or_create(&User { uid }).get()
    };
    assert_eq!((count("1000"), count("other")), (4, 16));
    assert_eq!((count("shared"), count("unknown")), (3, 5));
}

fn completed(origin: Origin, cached_tokens: u32, from_disk: bool) -> Completed {
    Completed {
        id: RequestId(1),
        caller: Caller::new(Principal::Uid(0), origin),
        user: None,
        is_prewarm: false,
        charged: 0,
        model: "m".to_owned(),
        from_disk,
        waited: Duration::ZERO,
        first_token: None,
        result: Ok(Usage {
            prompt_tokens: 10,
            cached_tokens,
            completion_tokens: 4,
            prefill_ms: 500.0,
            decode_ms: 200.0,
            ..Usage::default()
        }),
    }
}

#[test]
fn answers_are_counted_by_origin_and_source_of_the_prompt() {
    let metrics = Metrics::default();
    let (http, bus) = (Origin::Unix(Some(7)), Origin::Bus(":1.7".into()));
    metrics.completed(&completed(http.clone(), 0, false));
    metrics.completed(&completed(bus.clone(), 6, false));
    metrics.completed(&completed(Origin::Config, 7, true));
    metrics.refused(&http, FailureKind::QueueFull);
    metrics.ended_in_queue(&bus, FailureKind::DeadlineExceeded);
    let status = Status {
        engine_crashes: 2,
        active_jobs: 3,
        queue_length: 4,
        ..Status::default()
    };
    let text = metrics.encode(&status, BoardSnapshot::default());
    for line in [
        "hearthd_requests_total{origin=\"unix\",outcome=\"finished\"} 1",
        "hearthd_requests_total{origin=\"dbus\",outcome=\"finished\"} 1",
        "hearthd_requests_total{origin=\"config\",outcome=\"finished\"} 1",
        "hearthd_requests_total{origin=\"unix\",outcome=\"refused_queue_full\"} 1",
        "hearthd_requests_total{origin=\"dbus\",outcome=\"deadline_exceeded\"} 1",
        "hearthd_prompt_cache_requests_total{source=\"none\"} 1",
        "hearthd_prompt_cache_requests_total{source=\"memory\"} 1",
        "hearthd_prompt_cache_requests_total{source=\"disk\"} 1",
        "hearthd_prompt_cache_tokens_total{source=\"none\"} 17",
        "hearthd_prompt_cache_tokens_total{source=\"memory\"} 6",
        "hearthd_prompt_cache_tokens_total{source=\"disk\"} 7",
        "hearthd_prefill_seconds_sum 1.5",
        "hearthd_decode_token_seconds_count 3",
        "hearthd_decode_token_seconds_bucket{le=\"0.064\"} 3",
        "hearthd_engine_crashes_total 2",
        "llamacpp:prompt_tokens_total 17",
        "llamacpp:prompt_tokens_cached_total 13",
        "llamacpp:prompt_seconds_total 1.5",
        "llamacpp:tokens_predicted_total 12",
        "llamacpp:predicted_tokens_seconds 20.0",
        "llamacpp:n_tokens_max 14",
        "llamacpp:requests_processing 3",
        "llamacpp:requests_deferred 4",
    ] {
        let has = text.lines().any(|l| l == line);
        assert!(has, "no {line:?} in\n{text}");
    }
    assert!(
        text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1,
        "{text}"
    );
}
