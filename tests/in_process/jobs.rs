//! Jobs as bus objects.

use std::collections::HashMap;

use hearth_proto::FailureKind;
use hearth_proto::bus::PATH;
use hearth_testing::Script;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use zbus::{OwnedObjectPath, OwnedVariant};

use crate::bus::{JOB, Options};
use crate::harness::{World, counted, until_async};
use crate::http::{body, content};

const MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

type Interfaces = HashMap<String, HashMap<String, OwnedVariant>>;

#[tokio::test(start_paused = true)]
async fn jobs_are_added_and_removed_as_managed_objects() {
    let world = World::with("[queue]\njob_keep_s = 60\n", Script::default()).await;
    let bus = world.bus().await;
    let mut signals = bus.listen().await;
    let job = bus
        .submit(&body("the secret"), &Options::new())
        .await
        .unwrap();
    assert_eq!(job, format!("{PATH}/jobs/1"));
    let interfaces = loop {
        let added = signals.next("InterfacesAdded").await;
        let (path, interfaces): (OwnedObjectPath, Interfaces) = added.body().deserialize().unwrap();
        // The models are objects, too.
        if path.as_str() == job {
            break interfaces;
        }
    };
    let uid = interfaces[JOB]["Uid"].downcast_ref::<u32>().unwrap();
    assert_eq!(uid, nix::unistd::geteuid().as_raw());
    let managed = async || -> HashMap<OwnedObjectPath, Interfaces> {
        let objects = bus.call(PATH, MANAGER, "GetManagedObjects", &()).await;
        objects.unwrap()
    };
    let seen = format!("{:?}{:?}", managed().await, bus.properties(&job, JOB).await);
    assert!(seen.contains(&job) && !seen.contains("secret"), "{seen}");
    let result = bus.result(&job).await.unwrap();
    assert_eq!(content(&result), "the secret");
    let removed = signals.next("InterfacesRemoved").await;
    let (path, gone): (OwnedObjectPath, Vec<String>) = removed.body().deserialize().unwrap();
    assert_eq!(
        (path.as_str(), gone.as_slice()),
        (job.as_str(), &[JOB.to_owned()][..])
    );
    let objects = managed().await;
    assert!(objects.keys().all(|path| !path.as_str().contains("/jobs/")));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_job_is_signalled_with_its_result() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let mut signals = bus.listen().await;
    let job = bus
        .submit(&body("the secret"), &Options::new())
        .await
        .unwrap();
    let finished = signals.next("Finished").await;
    let (state, result, error): (String, String, String) = finished.body().deserialize().unwrap();
    assert_eq!((state.as_str(), error.as_str()), ("done", ""));
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(content(&result), "the secret");
    assert_eq!(finished.header().path().unwrap().as_str(), job);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_has_that_state() {
    let world = World::new(Script::token_ms(5)).await;
    let bus = world.bus().await;
    let mut signals = bus.listen().await;
    let options = Options::from([("priority", "background".into())]);
    let job = bus.submit(&body(&counted(50)), &options).await.unwrap();
    assert_eq!(bus.text(&job, JOB, "Priority").await, "background");
    bus.cancel(&job).await;
    let failure = bus.result(&job).await.unwrap_err();
    assert_eq!(failure.kind, Some(FailureKind::Cancelled));
    assert_eq!(bus.text(&job, JOB, "State").await, "cancelled");
    let finished = signals.next("Finished").await;
    let (state, message, error): (String, String, String) = finished.body().deserialize().unwrap();
    assert_eq!(
        (state.as_str(), error.as_str()),
        ("cancelled", "org.hearthd.Inference1.Error.Cancelled")
    );
    assert!(message.contains("cancelled"), "{message}");
    // Again: nothing happens.
    bus.cancel(&job).await;
}

#[tokio::test(start_paused = true)]
async fn a_queued_job_can_be_moved() {
    let world = World::with("[engine]\nslots = 1\n", Script::token_ms(20)).await;
    let bus = world.bus().await;
    let mut jobs = Vec::new();
    for content in [counted(200), "second".into(), "third".into()] {
        jobs.push(bus.submit(&body(&content), &Options::new()).await.unwrap());
        world.until_running(1).await;
    }
    let set = async |job: &str, class: &str| -> Result<(), Option<FailureKind>> {
        let set = bus.call(job, JOB, "SetPriority", &(class,)).await;
        set.map_err(|refusal| refusal.kind)
    };
    set(&jobs[1], "background").await.unwrap();
    until_async("the third one is next", async || {
        let place = async |job: &str| {
            let properties = bus.properties(job, JOB).await;
            let place = properties.get("QueuePosition")?;
            place.downcast_ref::<u32>().ok()
        };
        place(&jobs[1]).await == Some(1) && place(&jobs[2]).await == Some(0)
    })
    .await;
    assert_eq!(bus.text(&jobs[1], JOB, "Priority").await, "background");
    // One of a higher class is accepted at once.
    set(&jobs[2], "interactive").await.unwrap();
    assert_eq!(content(&bus.result(&jobs[2]).await.unwrap()), "third");
    for (job, class) in [(0, "background"), (2, "background"), (1, "urgent")] {
        let refused = set(&jobs[job], class).await.unwrap_err();
        assert_eq!(refused, Some(FailureKind::InvalidArgs), "{job} {class}");
    }
    bus.cancel(&jobs[0]).await;
    assert_eq!(content(&bus.result(&jobs[1]).await.unwrap()), "second");
}

#[tokio::test]
async fn the_events_of_a_job_are_written_to_a_pipe() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    let pipe = bus
        .open_stream(&body("hello"), &Options::new())
        .await
        .unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let lines = BufReader::new(pipe).lines();
        let parse = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
        lines.map(parse).collect::<Vec<Value>>()
    });
    let events = read.await.unwrap();
    let texts = events.iter().filter(|event| event["type"] == "token");
    let text: String = texts.filter_map(|event| event["text"].as_str()).collect();
    assert_eq!(text, "hello");
    assert_eq!(events.last().unwrap()["reason"], json!("stop"));
}

#[tokio::test(start_paused = true)]
async fn unknown_and_invalid_options_are_refused() {
    let world = World::new(Script::default()).await;
    let bus = world.bus().await;
    for options in [
        Options::from([("prio", "x".into())]),
        Options::from([("priority", "urgent".into())]),
        Options::from([("cancel_when_gone", "yes".into())]),
        Options::from([("deadline_ms", "soon".into())]),
    ] {
        let refused = bus.submit(&body("x"), &options).await.unwrap_err();
        assert_eq!(refused.kind, Some(FailureKind::InvalidArgs), "{refused:?}");
    }
    for request in ["{}", "{", r#"{"messages":[{"role":"user"}],"n":2}"#] {
        let refused = bus.refused("Submit", &(request, Options::new())).await;
        assert!(refused.kind.is_some(), "{request}: {refused:?}");
    }
    assert_eq!(bus.generate("still here").await.unwrap(), "still here");
}
