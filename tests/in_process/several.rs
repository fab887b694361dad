//! Several models in one memory budget.

use std::time::Duration;

use hearth_policy::holds::{Client, Keep};
use hearth_proto::{Command, Failure, FailureKind, KeepAlive, ModelRef, Priority, Submission};
use hearth_testing::{Folder, Script};
use hearthd::caller::Caller;
use hearthd::daemon::State;
use hearthd::dispatch::Stream;
use tokio::time::sleep;

use crate::bus::Options;
use crate::harness::{MODEL, World, caller, chat, until};

/// Of 4 GiB, with 8 % reserved: room for two models of 500 MiB.
const ROOM_FOR_TWO: u64 = 40;

/// A board with models `a` to `d` of 500 MiB each, and room for two of them.
async fn world(config: &str, script: Script) -> World {
    let folder = Folder::with_model(MODEL).unwrap();
    for name in ["a", "b", "c", "d"] {
        folder.add_model_of(name, 500).unwrap();
    }
    folder.board().set_available(ROOM_FOR_TWO).unwrap();
    World::over(folder, config, script).await
}

fn to(model: &str, content: &str) -> Submission {
    Submission {
        model: Some(model.to_owned()),
        ..chat(content)
    }
}

async fn submit(world: &World, model: &str, content: &str) -> Result<Stream, Failure> {
    let dispatcher = &world.daemon.dispatcher;
    dispatcher.submit(&caller(), to(model, content)).await
}

async fn say(world: &World, model: &str, content: &str) -> Result<String, Failure> {
    Ok(submit(world, model, content)
        .await?
        .collect()
        .await?
        .content)
}

/// Has each model answer once, in this order, with a pause after each.
async fn use_in_turn(world: &World, models: &[&str]) {
    for model in models {
        assert_eq!(say(world, model, "x").await.unwrap(), "x");
        sleep(Duration::from_secs(10)).await;
    }
}

fn loaded(world: &World) -> Vec<String> {
    let resident = world.daemon.pool.status().resident.into_iter();
    let mut names: Vec<String> = resident.map(|model| model.name).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn a_second_model_is_loaded_beside_the_first() {
    let world = world("", Script::default()).await;
    use_in_turn(&world, &["a", "b", "a", "b", "a"]).await;
    assert_eq!(world.loads(), ["a", "b"]);
    assert_eq!(world.engine.running(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_model_makes_room() {
    let world = world("", Script::default()).await;
    use_in_turn(&world, &["a", "b", "a"]).await;
    sleep(Duration::from_mins(1)).await;
    use_in_turn(&world, &["a", "c"]).await;
    assert_eq!(loaded(&world), ["a", "c"]);
    assert_eq!(world.daemon.status().engine_crashes, 0);
}

#[tokio::test(start_paused = true)]
async fn running_answers_are_finished_before_their_model_makes_room() {
    let world = world("", Script::token_ms(100)).await;
    let (long, longer) = ("word ".repeat(20), "word ".repeat(40));
    let of_a = submit(&world, "a", &long).await.unwrap();
    let of_b = submit(&world, "b", &longer).await.unwrap();
    world.until_running(2).await;
    let of_c = submit(&world, "c", "third").await.unwrap();
    let (a, b, c) = tokio::join!(of_a.collect(), of_b.collect(), of_c.collect());
    assert_eq!(a.unwrap().content, long);
    assert_eq!(b.unwrap().content, longer);
    assert_eq!(c.unwrap().content, "third");
    assert_eq!(world.loads(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_held_model_stays_and_a_refusal_names_its_holder() {
    let world = world("[model]\npinned = [\"b\"]\n", Script::default()).await;
    let bus = world.bus().await;
    use_in_turn(&world, &["b", "a"]).await;
    let cookie: u32 = bus
        .manager("KeepLoaded", &("voice", Options::new()))
        .await
        .unwrap();
    let kept = loaded(&world);
    let failure = say(&world, "c", "x").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::OutOfMemory);
    let named = ["kept by", "(voice)", "config (model.pinned)", "b ("];
    for part in named {
        assert!(failure.message.contains(part), "{part}: {failure}");
    }
    assert_eq!(loaded(&world), kept);
    let released: Result<(), _> = bus.manager("ReleaseKeepLoaded", &(cookie,)).await;
    released.unwrap();
    assert_eq!(say(&world, "c", "x").await.unwrap(), "x");
    assert_eq!(loaded(&world), ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_yields_only_where_nothing_else_can() {
    let world = world("", Script::default()).await;
    let forever = Caller {
        keep: Some(Keep {
            client: Client {
                uid: 1,
                pid: 0,
                agent: "app".into(),
            },
            time: KeepAlive::Forever,
        }),
        ..caller()
    };
    let dispatcher = &world.daemon.dispatcher;
    let model = ModelRef::named("a");
    let kept = dispatcher.load_or_release(&forever, &model).await;
    assert_eq!(kept, Ok(true));
    sleep(Duration::from_mins(10)).await;
    use_in_turn(&world, &["b", "c"]).await;
    assert_eq!(loaded(&world), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn alternating_requests_for_more_models_than_fit_all_end() {
    let script = Script {
        load_time: Duration::from_secs(1),
        ..Script::token_ms(20)
    };
    let world = world("", script).await;
    let mut streams = Vec::new();
    for n in 0..24 {
        let model = ["a", "b", "c"][n % 3];
        let text = format!("{model} {n}");
        streams.push((text.clone(), submit(&world, model, &text).await.unwrap()));
    }
    for (text, stream) in streams {
        assert_eq!(stream.collect().await.unwrap().content, text);
    }
    // Each load serves more than one request.
    assert!(world.loads().len() <= 12, "{:?}", world.loads());
    assert_eq!(world.daemon.status().engine_crashes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_requests_for_one_model_does_not_keep_out_another() {
    let world = world("[engine]\nmodels_max = 1\n", Script::token_ms(50)).await;
    let _first = submit(&world, "a", "first").await.unwrap();
    world.until_running(1).await;
    let other = submit(&world, "b", "other").await.unwrap();
    let mut later = Vec::new();
    for n in 0..25 {
        let text = format!("a later request, number {n}");
        later.push(submit(&world, "a", &text).await.unwrap());
    }
    assert_eq!(other.collect().await.unwrap().content, "other");
    // The model that was there had its turn, and no more.
    assert_eq!(world.loads(), ["a", "b"]);
    for stream in later {
        stream.collect().await.unwrap();
    }
    assert_eq!(world.loads(), ["a", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn work_in_the_background_waits_for_a_model_that_someone_talks_to() {
    let world = world("[engine]\nmodels_max = 1\n", Script::default()).await;
    let speak = async |text: &str| {
        let mut submission = to("a", text);
        submission.request.priority = Priority::Interactive;
        let dispatcher = &world.daemon.dispatcher;
        let stream = dispatcher.submit(&caller(), submission).await.unwrap();
        stream.collect().await.unwrap()
    };
    speak("first").await;
    let mut submission = to("b", "a summary");
    submission.request.priority = Priority::Background;
    let dispatcher = &world.daemon.dispatcher;
    let summary = dispatcher.submit(&caller(), submission).await.unwrap();
    for _ in 0..5 {
        sleep(Duration::from_secs(10)).await;
        speak("again").await;
    }
    assert_eq!(world.loads(), ["a"]);
    // It rises a class with each minute, and nobody speaks any more.
    assert_eq!(summary.collect().await.unwrap().content, "a summary");
    assert_eq!(world.loads(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_embedder_that_would_be_loaded_again_first_does_not_make_room() {
    // 80 ms for each text.
    let script = Script {
        prefill_time: Duration::from_millis(20),
        ..Script::default()
    };
    let world = world("[engine]\nmodels_max = 1\n", script).await;
    let dispatcher = &world.daemon.dispatcher;
    let (caller, embedder) = (caller(), ModelRef::named("b"));
    let texts = vec!["text".to_owned(); 1500];
    let embedded = dispatcher.embed(&caller, &embedder, texts);
    let summary = async {
        sleep(Duration::from_secs(5)).await;
        let mut submission = to("a", "a summary");
        submission.request.priority = Priority::Background;
        let stream = dispatcher.submit(&caller, submission).await.unwrap();
        stream.collect().await.unwrap().content
    };
    let (embedded, summary) = tokio::join!(embedded, summary);
    assert_eq!(embedded.unwrap().vectors.len(), 1500);
    assert_eq!(summary, "a summary");
    // The summary has its turn when it has waited for a minute.
    assert_eq!(world.loads(), ["b", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn one_model_is_unloaded_and_the_others_stay() {
    let world = world("", Script::token_ms(100)).await;
    let running = submit(&world, "a", "an answer").await.unwrap();
    say(&world, "b", "x").await.unwrap();
    world
        .daemon
        .pool
        .unload(&caller(), Some("b"))
        .await
        .unwrap();
    assert_eq!(loaded(&world), ["a"]);
    assert_eq!(running.collect().await.unwrap().content, "an answer");
    world.daemon.pool.unload(&caller(), None).await.unwrap();
    assert_eq!(world.daemon.status().state, State::Unloaded);
}

#[tokio::test(start_paused = true)]
async fn a_load_makes_a_model_the_one_that_is_shown() {
    let world = world("", Script::default()).await;
    use_in_turn(&world, &["a", "b"]).await;
    assert_eq!(world.daemon.status().model, "b");
    let model = ModelRef::named("a");
    world.daemon.pool.load(&caller(), &model).await.unwrap();
    assert_eq!(world.daemon.status().model, "a");
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_one_engine_leaves_the_answers_of_the_other() {
    let world = world("", Script::token_ms(100)).await;
    let text = "word ".repeat(10);
    let of_a = submit(&world, "a", &text).await.unwrap();
    let of_b = submit(&world, "b", "x !crash").await.unwrap();
    let (a, b) = tokio::join!(of_a.collect(), of_b.collect());
    assert_eq!(a.unwrap().content, text);
    assert_eq!(b.unwrap_err().kind, FailureKind::EngineCrashed);
    assert_eq!(world.loads(), ["a", "b", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn idle_models_release_memory_before_those_that_work() {
    let world = world("", Script::token_ms(1000)).await;
    say(&world, "a", "x").await.unwrap();
    let running = submit(&world, "b", &"word ".repeat(100)).await.unwrap();
    world.until_running(1).await;
    let shrinks = || {
        let shrink = |command: &Command| matches!(command, Command::Shrink).then_some(());
        world.engine.picked(shrink).len()
    };
    // Below 15 % of the memory is available.
    world.folder.board().set_available(14).unwrap();
    until("a cache is released", || shrinks() == 1).await;
    assert_eq!(loaded(&world), ["a", "b"]);
    until("the idle model is unloaded", || loaded(&world) == ["b"]).await;
    assert_eq!(shrinks(), 1);
    until("the other cache is released", || shrinks() == 2).await;
    let before = running.collect().await.unwrap().content;
    assert_eq!(before, "word ".repeat(100));
}

#[tokio::test(start_paused = true)]
async fn aliases_and_tasks_choose_the_model() {
    let config = "[model]\ndefault = \"a\"\nembedding = \"b\"\n\
                  aliases = { \"gpt-4o-mini\" = \"c\", d = \"c\" }\n";
    let world = world(config, Script::default()).await;
    let dispatcher = &world.daemon.dispatcher;
    let answer = submit(&world, "gpt-4o-mini", "x").await.unwrap();
    assert_eq!(answer.model(), "c");
    drop(answer);
    // An installed model goes before an alias.
    assert_eq!(submit(&world, "d", "x").await.unwrap().model(), "d");
    let texts = vec!["text".to_owned()];
    let made = dispatcher.embed(&caller(), &ModelRef::Default, texts).await;
    assert_eq!(made.unwrap().model, "b");
    let unnamed = world.submit("x").await.unwrap();
    assert_eq!(unnamed.model(), "a");
    let unknown = submit(&world, "nope", "x").await.unwrap_err();
    assert_eq!(unknown.kind, FailureKind::ModelNotFound);
}
