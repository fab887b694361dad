//! Measuring a model by number of threads.

use std::fs;
use std::time::Duration;

use hearth_proto::{Failure, FailureKind, ModelRef};
use hearth_testing::Script;
use hearthd::tuning::Tuning;
use tokio::time::sleep;

use crate::harness::{World, caller, patient, until};

const TWO_THREADS: &str = "[engine]\nthreads = 2\n";

fn paced() -> Script {
    Script {
        prefill_time: Duration::from_millis(2),
        ..Script::token_ms(20)
    }
}

async fn tune(world: &World, wait: Duration) -> Result<Tuning, Failure> {
    let (caller, model) = (caller(), ModelRef::Default);
    let tuned = world.daemon.tuner.tune(&caller, &model, wait);
    patient("it is measured", tuned).await
}

#[tokio::test(start_paused = true)]
async fn a_measurement_is_stored() {
    let world = World::on_board(40, TWO_THREADS, paced()).await;
    let measured = tune(&world, Duration::ZERO).await.unwrap();
    assert_eq!(measured.model, "fake");
    let listed = world.daemon.tuner.list();
    assert_eq!(listed, std::slice::from_ref(&measured));
    assert_eq!(world.daemon.tuner.progress(), None);
    // It survives a restart, and a damaged file does no harm.
    let folder = world.stop().await;
    let world = World::over(folder, TWO_THREADS, paced()).await;
    assert_eq!(world.daemon.tuner.list(), [measured]);
    let folder = world.stop().await;
    let text = fs::read_to_string(folder.tuning()).unwrap();
    fs::write(folder.tuning(), &text[..text.len() / 2]).unwrap();
    let world = World::over(folder, TWO_THREADS, paced()).await;
    assert_eq!(world.daemon.tuner.list(), []);
    tune(&world, Duration::ZERO).await.unwrap();
    world.daemon.tuner.forget().await.unwrap();
    assert_eq!(world.daemon.tuner.list(), []);
}

#[tokio::test(start_paused = true)]
async fn a_warm_board_is_not_measured() {
    let world = World::on_board(75, TWO_THREADS, paced()).await;
    let refused = tune(&world, Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Overheated);
    assert!(!world.folder.tuning().exists());
    // It continues once the board has cooled down.
    let tuner = &world.daemon.tuner;
    let cool = async {
        let waits = || tuner.progress().is_some_and(|p| p.step.contains("waiting"));
        until("it waits", waits).await;
        let twice = tune(&world, Duration::ZERO).await.unwrap_err();
        assert_eq!(twice.kind, FailureKind::Busy);
        sleep(Duration::from_mins(1)).await;
        world.folder.board().set_celsius(40).unwrap();
    };
    let (measured, ()) = tokio::join!(tune(&world, Duration::from_hours(1)), cool);
    measured.unwrap();
    assert!(world.folder.tuning().exists());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_measurement_ends() {
    let world = World::on_board(40, TWO_THREADS, paced()).await;
    let tuner = &world.daemon.tuner;
    tokio::select! {
        tuned = tune(&world, Duration::ZERO) => panic!("{tuned:?}"),
        () = until("it measures", || tuner.progress().is_some_and(|p| p.done > 0)) => {}
    }
    assert_eq!(tuner.progress(), None);
    world.until_running(0).await;
    assert_eq!(tuner.list(), []);
}
