//! Limits per user, over both transports.

use hearth_proto::FailureKind;
use hearth_testing::Script;

use crate::bus::{JOB, Options};
use crate::harness::{World, counted, until, until_async};
use crate::http::{CHAT, body, content};

#[tokio::test(start_paused = true)]
async fn concurrent_requests_are_limited_per_user() {
    let config = "[limits]\njobs_max = 2\n";
    let world = World::with(config, Script::token_ms(20)).await;
    let bus = world.bus().await;
    let long = body(&counted(100));
    let first = bus.submit(&long, &Options::new()).await.unwrap();
    let second = bus.submit(&long, &Options::new()).await.unwrap();
    let refused = bus.refused("Generate", &("x",)).await;
    assert_eq!(refused.kind, Some(FailureKind::QuotaExceeded));
    assert_eq!(refused.retry_after_s, Some(5));
    assert!(refused.message.contains("`limits.jobs_max`"), "{refused:?}");
    let refused = world.post(CHAT, &body("x")).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "quota_exceeded")
    );
    assert_eq!(refused.header("retry-after"), "5");
    bus.cancel(&first).await;
    until_async("there is a place again", async || {
        bus.generate("hello").await.is_ok()
    })
    .await;
    bus.cancel(&second).await;
}

#[tokio::test(start_paused = true)]
async fn tokens_per_hour_are_limited_per_user() {
    let config = "[limits]\ntokens_per_hour = 400\n";
    let world = World::with(config, Script::token_ms(5)).await;
    let bus = world.bus().await;
    // Computed tokens count, even if the request was then cancelled.
    let job = bus
        .submit(&body(&counted(45)), &Options::new())
        .await
        .unwrap();
    until_async("it is computed", async || {
        bus.number(&job, JOB, "TokensGenerated").await > 80
    })
    .await;
    bus.cancel(&job).await;
    let cancelled = bus.result(&job).await.unwrap_err();
    assert_eq!(cancelled.kind, Some(FailureKind::Cancelled));
    let refused = bus.refused("Generate", &("x",)).await;
    assert_eq!(refused.kind, Some(FailureKind::QuotaExceeded));
    let retry = refused.retry_after_s.unwrap();
    assert!((3000..=3660).contains(&retry), "{retry}");
    let refused = world.post(CHAT, &body("x")).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "quota_exceeded")
    );
    let refused = bus.refused("Embed", &(vec!["x"], Options::new())).await;
    assert_eq!(refused.kind, Some(FailureKind::QuotaExceeded));
    // A refusal does not end the session and does not count.
    let session = bus.open_session(&Options::new()).await.unwrap();
    let said = bus.say(&session, "x", &Options::new()).await.unwrap_err();
    assert_eq!(said.kind, Some(FailureKind::QuotaExceeded));
    let metrics = world.metrics().await;
    let counted = "outcome=\"refused_quota_exceeded\"";
    assert!(metrics.contains(counted), "{metrics}");
    // After that time there is something again.
    tokio::time::sleep(std::time::Duration::from_secs(u64::from(retry) + 1)).await;
    assert_eq!(bus.generate("x").await.unwrap(), "x");
}

#[tokio::test(start_paused = true)]
async fn exempt_users_have_no_limits() {
    let uid = nix::unistd::geteuid();
    let config = format!("[limits]\njobs_max = 1\ntokens_per_hour = 1\nexempt_uids = [{uid}]\n");
    let world = World::with(&config, Script::token_ms(5)).await;
    let bus = world.bus().await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(bus.submit(&body("hello"), &Options::new()).await.unwrap());
    }
    for job in jobs {
        assert_eq!(content(&bus.result(&job).await.unwrap()), "hello");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_has_the_unit_of_its_caller() {
    let world = World::new(Script::default()).await;
    let board = world.folder.board();
    board.set_unit(std::process::id(), "voice.service").unwrap();
    let (bus, uid) = (world.bus().await, nix::unistd::geteuid());
    let job = bus.submit(&body("hello"), &Options::new()).await.unwrap();
    bus.result(&job).await.unwrap();
    assert_eq!(bus.text(&job, JOB, "Unit").await, "voice.service");
    world.chat(&body("hello again")).await;
    until("both are answered", || {
        world.daemon.status().active_jobs == 0
    })
    .await;
    let requests = format!("hearthd_user_requests_total{{uid=\"{uid}\"}}");
    assert!((world.metric(&requests).await - 2.0).abs() < 1e-9);
    assert!(!world.metrics().await.contains("voice.service"));
}
