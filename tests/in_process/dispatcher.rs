//! The dispatcher: order, crashes, cancellation and the end of the daemon.

use std::time::Duration;

use hearth_proto::{AnswerPart, Command, FailureKind, ModelRef, Priority, Prompt, StreamEvent};
use hearth_testing::{Answers, Script, Step};
use hearthd::caller::{Caller, Origin, Principal};
use hearthd::daemon::State;
use hearthd::dispatch::Stream;
use tokio::time::{Instant, sleep};

use crate::harness::{World, caller, chat, counted, until, user};

const ONE_SLOT: &str = "[engine]\nslots = 1\n";

/// The last message of each request that the engines received, in order.
fn asked(world: &World) -> Vec<String> {
    let requests = world.requests();
    let texts = requests.iter().map(|r| match &r.prompt {
        Prompt::Chat { messages, .. } => messages[0].content.clone(),
        Prompt::Text(text) => text.clone(),
        Prompt::Mixed(parts) => format!("{parts:?}"),
        Prompt::Infill(infill) => infill.prefix.clone(),
    });
    texts.collect()
}

async fn submit_as(world: &World, caller: &Caller, content: &str, class: Priority) -> Stream {
    let mut submission = chat(content);
    submission.request.priority = class;
    let submitted = world.daemon.dispatcher.submit(caller, submission).await;
    submitted.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_higher_class_runs_first_and_ageing_raises_a_class() {
    let world = World::with(ONE_SLOT, Script::token_ms(100)).await;
    let caller = caller();
    let mut streams =
        vec![submit_as(&world, &caller, "running first", Priority::Interactive).await];
    world.until_running(1).await;
    for (text, class) in [
        ("background", Priority::Background),
        ("normal", Priority::Normal),
        ("interactive", Priority::Interactive),
    ] {
        streams.push(submit_as(&world, &caller, text, class).await);
    }
    for stream in streams {
        stream.collect().await.unwrap();
    }
    let expected = ["running first", "interactive", "normal", "background"];
    assert_eq!(asked(&world), expected);

    // After two minutes a background request is as good as an interactive one.
    let world = World::with(ONE_SLOT, Script::token_ms(1000)).await;
    let long = submit_as(&world, &caller, &"x".repeat(180), Priority::Interactive).await;
    world.until_running(1).await;
    let old = submit_as(&world, &caller, "old", Priority::Background).await;
    sleep(Duration::from_secs(150)).await;
    let new = submit_as(&world, &user(7), "new", Priority::Normal).await;
    for stream in [long, old, new] {
        stream.collect().await.unwrap();
    }
    assert_eq!(asked(&world)[1..], ["old", "new"]);
}

#[tokio::test(start_paused = true)]
async fn users_are_served_in_turn() {
    let world = World::with(ONE_SLOT, Script::token_ms(10)).await;
    let (many, one) = (user(1001), user(1002));
    let mut streams = vec![submit_as(&world, &many, "many 0", Priority::Normal).await];
    world.until_running(1).await;
    for n in 1..5 {
        streams.push(submit_as(&world, &many, &format!("many {n}"), Priority::Normal).await);
    }
    streams.push(submit_as(&world, &one, "one", Priority::Normal).await);
    for stream in streams {
        stream.collect().await.unwrap();
    }
    let place = asked(&world).iter().position(|text| text == "one");
    assert!(place.unwrap() <= 2, "{:?}", asked(&world));
}

#[tokio::test(start_paused = true)]
async fn a_higher_class_gets_a_slot_in_a_full_engine() {
    let world = World::with(ONE_SLOT, Script::token_ms(100)).await;
    let caller = caller();
    let long = counted(50);
    let slow = submit_as(&world, &caller, &long, Priority::Background).await;
    world.until_running(1).await;
    let began = Instant::now();
    let quick = submit_as(&world, &caller, "quick", Priority::Interactive).await;
    assert_eq!(quick.collect().await.unwrap().content, "quick");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(slow.collect().await.unwrap().content, long);
}

#[tokio::test(start_paused = true)]
async fn an_answer_continues_after_a_crash() {
    let world = World::new(Script::token_ms(10)).await;
    let text = counted(20);
    let steps = text.chars().take(30).map(Step::text);
    let crashing: Vec<Step> = steps.chain([Step::Crash]).collect();
    world
        .engine
        .set(Script::answering(Answers::fixed(crashing)));
    let mut stream = world.submit(&text).await.unwrap();
    let mut started = 0;
    let mut answer = String::new();
    while let Some(event) = stream.next().await {
        match event {
            StreamEvent::Started { .. } => {
                started += 1;
                world.engine.set(Script::token_ms(10));
            }
            StreamEvent::Token { parts, .. } => {
                for part in parts {
                    let AnswerPart::Content(text) = part else {
                        panic!("{part:?}")
                    };
                    answer += &text;
                }
            }
            StreamEvent::Failed(failure) => panic!("{failure:?}"),
            _ => {}
        }
    }
    assert_eq!((started, answer), (1, text));
    let resumed: Vec<usize> = world.requests().iter().map(|r| r.resume.len()).collect();
    assert_eq!(resumed, [0, 30]);
    let seeds: Vec<_> = world.requests().iter().map(|r| r.sampling.seed).collect();
    assert_eq!(seeds[0], seeds[1]);
    assert_eq!(world.daemon.status().engine_crashes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_crashes_the_engine_twice_is_quarantined() {
    let world = World::new(Script::token_ms(10)).await;
    let bystander = counted(20);
    let (other, fatal) = (
        world.submit(&bystander).await.unwrap(),
        world.submit("oh !crash").await.unwrap(),
    );
    let (other, fatal) = tokio::join!(other.collect(), fatal.collect());
    assert_eq!(fatal.unwrap_err().kind, FailureKind::EngineCrashed);
    assert_eq!(other.unwrap().content, bystander);
    assert_eq!(world.daemon.status().engine_crashes, 2);
    // It is refused without an engine, for ten minutes.
    let refused = world.submit("oh !crash").await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::EngineCrashed);
    assert!((590..=600).contains(&refused.retry_after_s.unwrap()));
    assert_eq!(world.daemon.status().engine_crashes, 2);
    assert_eq!(world.say("another one").await.unwrap(), "another one");
    sleep(Duration::from_secs(601)).await;
    let again = world.say("oh !crash").await.unwrap_err();
    assert_eq!(again.kind, FailureKind::EngineCrashed);
    assert_eq!(world.daemon.status().engine_crashes, 4);
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_continue_with_another_file() {
    let world = World::new(Script::token_ms(10)).await;
    world.folder.add_model("mine").unwrap();
    let crashing = vec![Step::text("a"), Step::text("b"), Step::Crash];
    world
        .engine
        .set(Script::answering(Answers::fixed(crashing)));
    let mut submission = chat("x");
    submission.model = Some("mine".into());
    let submitted = world.daemon.dispatcher.submit(&caller(), submission).await;
    let mut stream = submitted.unwrap();
    while !matches!(stream.next().await, Some(StreamEvent::Started { .. })) {}
    world.engine.set(Script::default());
    // The pause after a crash is 200 ms.
    until("it crashed", || world.daemon.status().engine_crashes == 1).await;
    world.folder.add_model("mine").unwrap();
    let failure = stream.collect().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::EngineCrashed);
    assert_eq!(world.requests().len(), 1);
    // One that had not begun does not mind.
    assert_eq!(world.say("next").await.unwrap(), "next");
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_between_two_engines_is_removed() {
    let world = World::new(Script::token_ms(10)).await;
    let crashing = vec![Step::text("a"), Step::Crash];
    world
        .engine
        .set(Script::answering(Answers::fixed(crashing)));
    let stream = world.submit("x").await.unwrap();
    until("it crashed", || world.daemon.status().engine_crashes == 1).await;
    assert_eq!(world.daemon.status().queue_length, 1);
    drop(stream);
    assert_eq!(world.daemon.status().queue_length, 0);
    world.engine.set(Script::default());
    assert_eq!(world.say("next").await.unwrap(), "next");
    assert_eq!(world.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_cancels_only_its_own_request() {
    let world = World::new(Script::token_ms(10)).await;
    let (gone, stays) = (
        world.submit(&counted(50)).await.unwrap(),
        world.submit("stays here").await.unwrap(),
    );
    world.until_running(2).await;
    let id = gone.id();
    drop(gone);
    assert_eq!(stays.collect().await.unwrap().content, "stays here");
    world.until_running(0).await;
    let cancelled = world.engine.picked(|command| match command {
        Command::Cancel { id } => Some(*id),
        _ => None,
    });
    assert_eq!(cancelled, [id]);
    assert_eq!(world.daemon.status().state, State::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_waiting_and_running_requests() {
    let world = World::with(ONE_SLOT, Script::token_ms(100)).await;
    let running = world.submit(&counted(20)).await.unwrap();
    world.until_running(1).await;
    let mut late = chat("too late");
    late.deadline = Some(Duration::from_millis(50));
    let submitted = world.daemon.dispatcher.submit(&caller(), late).await;
    let failure = submitted.unwrap().collect().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::DeadlineExceeded);
    assert_eq!(world.requests().len(), 1, "it never ran");
    assert_eq!(running.collect().await.unwrap().content, counted(20));

    let mut long = chat(&counted(20));
    long.deadline = Some(Duration::from_secs(2));
    let submitted = world.daemon.dispatcher.submit(&caller(), long).await;
    let (mut stream, mut tokens) = (submitted.unwrap(), 0);
    let failure = loop {
        match stream.next().await.unwrap() {
            StreamEvent::Token { .. } => tokens += 1,
            StreamEvent::Failed(failure) => break failure,
            _ => {}
        }
    };
    assert_eq!(failure.kind, FailureKind::DeadlineExceeded);
    assert!((15..=20).contains(&tokens), "{tokens}");
    assert_eq!(world.say("next").await.unwrap(), "next");
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_running_requests_and_refuses_others() {
    let world = World::with(ONE_SLOT, Script::token_ms(100)).await;
    let running = world.submit("finishes").await.unwrap();
    world.until_running(1).await;
    let queued = world.submit("queued").await.unwrap();
    let refused = async {
        sleep(Duration::from_millis(100)).await;
        // An unload would end what the drain waits for.
        let (pool, caller) = (&world.daemon.pool, caller());
        let unload = pool.unload(&caller, None).await.unwrap_err();
        let load = pool.load(&caller, &ModelRef::Default).await.unwrap_err();
        assert_eq!([unload.kind, load.kind], [FailureKind::Busy; 2]);
        world.submit("refused").await
    };
    let ((), running, queued, refused) = tokio::join!(
        world.daemon.drain(),
        running.collect(),
        queued.collect(),
        refused
    );
    assert_eq!(running.unwrap().content, "finishes");
    assert_eq!(queued.unwrap_err().kind, FailureKind::Busy);
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Busy);
    assert!(refused.retry_after_s.is_some());
    until("the engine ends", || world.engine.running() == 0).await;
    let load = world.daemon.pool.load(&caller(), &ModelRef::Default).await;
    assert_eq!(load.unwrap_err().kind, FailureKind::Busy);
    assert_eq!(world.engine.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_waits_no_longer_than_configured() {
    let config = "[queue]\ndrain_s = 5\n";
    let world = World::with(config, Script::token_ms(1000)).await;
    let running = world.submit(&counted(100)).await.unwrap();
    world.until_running(1).await;
    let began = Instant::now();
    world.daemon.drain().await;
    assert!((5..7).contains(&began.elapsed().as_secs()));
    let failure = running.collect().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    until("the engine ends", || world.engine.running() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded() {
    let config = "[queue]\nlength_max = 1\n[engine]\nslots = 1\n";
    let world = World::with(config, Script::token_ms(20)).await;
    let running = world.submit(&counted(20)).await.unwrap();
    world.until_running(1).await;
    let waiting = world.submit("waits").await.unwrap();
    let refused = world.submit("too many").await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::QueueFull);
    assert_eq!(refused.retry_after_s, Some(5));
    drop(running);
    assert_eq!(waiting.collect().await.unwrap().content, "waits");
}

#[tokio::test(start_paused = true)]
async fn an_anonymous_caller_is_not_a_user() {
    let config = "[limits]\njobs_max = 1\n";
    let world = World::with(config, Script::token_ms(20)).await;
    let anonymous = Caller::new(Principal::Anonymous, Origin::Tcp);
    let first = submit_as(&world, &anonymous, &counted(20), Priority::Normal).await;
    let second = world.daemon.dispatcher.submit(&anonymous, chat("x")).await;
    assert_eq!(second.unwrap_err().kind, FailureKind::QuotaExceeded);
    assert_eq!(world.say("a user").await.unwrap(), "a user");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn requests_for_two_models_are_all_answered() {
    let world = World::new(Script::token_ms(5)).await;
    world.folder.add_model("other").unwrap();
    let mut streams = Vec::new();
    for n in 0..6 {
        let mut submission = chat(&format!("request {n}"));
        submission.model = Some(["fake", "other"][n % 2].into());
        let caller = user(1000 + u32::try_from(n).unwrap());
        let submitted = world.daemon.dispatcher.submit(&caller, submission).await;
        streams.push(submitted.unwrap());
    }
    for (n, stream) in streams.into_iter().enumerate() {
        let answer = stream.collect().await.unwrap();
        assert_eq!(answer.content, format!("request {n}"));
        assert_eq!(answer.model, ["fake", "other"][n % 2]);
    }
    assert_eq!(world.daemon.status().engine_crashes, 0);
}
