use hearth_policy::holds::{Client, Keep};
use hearth_proto::units::Bytes;
use hearth_proto::{KeepAlive, ModelInfo, ModelKind};
use tokio::sync::{mpsc, watch};

use super::super::HEARTBEAT;
use super::super::slot::{FileId, Slots};
use super::*;

const LIMIT: Duration = Duration::from_secs(100);
const NORMAL: Priority = Priority::Normal;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn info(kind: ModelKind) -> ModelInfo {
    ModelInfo {
        kind,
        context_size: 1,
        context_train: 1,
        slots: 1,
        kv_tokens: 1,
        kv_token_bytes: 1,
        vocab_size: 1,
        ..ModelInfo::default()
    }
}

/// Wants a model and reserves memory for it.
fn admit(pool: &mut Residency, now: Duration, model: &str) {
    pool.want(model, NORMAL, None, false);
    let engine = Engine {
        commands: mpsc::unbounded_channel().0,
        serial: 0,
        pid: None,
        file: FileId::default(),
        parts: Vec::new(),
        note: String::new(),
        slots: Slots::new(watch::Sender::default()),
        info: None,
        load_progress: 0.0,
        is_ending: false,
        limits: Limits::default(),
        estimate: Bytes::mib(100),
        draft: None,
        ready_since: Duration::ZERO,
        has_worked: false,
    };
    pool.admitted(now, model, engine);
}

/// A model `m` that was loaded at 10 s, for a caller with or without a keep-alive of
/// its own.
fn loaded(sets_keep_alive: bool) -> Residency {
    let mut pool = Residency::default();
    let (waiter, _) = oneshot::channel();
    pool.want("m", NORMAL, Some(waiter), sets_keep_alive);
    admit(&mut pool, at(9), "m");
    assert!(pool.loaded_now(at(10), "m", info(ModelKind::Chat)));
    pool
}

/// A use that no other caller waits behind.
fn use_model(pool: &mut Residency, now: Duration, model: &str, keep: Option<&Keep>) {
    pool.used(now, model, keep, false);
}

fn keep_alive(agent: &str, time: KeepAlive) -> Keep {
    let client = Client {
        uid: 1,
        pid: 0,
        agent: agent.into(),
    };
    Keep { client, time }
}

fn seconds(agent: &str, n: u64) -> Keep {
    keep_alive(agent, KeepAlive::For(at(n)))
}

#[test]
fn the_longest_keep_alive_counts() {
    let until = |pool: &Residency| pool.stays_until("m", LIMIT);
    let forever = |agent| keep_alive(agent, KeepAlive::Forever);
    // A caller with a keep-alive has loaded it, and may be about to send a request.
    let mut pool = loaded(true);
    assert_eq!(until(&pool), Some(at(10) + HEARTBEAT));
    use_model(&mut pool, at(12), "m", Some(&seconds("a", 30)));
    assert_eq!(until(&pool), Some(at(42)));
    use_model(&mut pool, at(13), "m", Some(&seconds("b", 10)));
    use_model(&mut pool, at(14), "another", Some(&forever("c")));
    assert_eq!(until(&pool), Some(at(42)));
    use_model(&mut pool, at(20), "m", None);
    assert_eq!(until(&pool), Some(at(120)));
    use_model(&mut pool, at(21), "m", Some(&forever("a")));
    assert_eq!(until(&pool), None);
    assert!(!pool.is_idle_for(at(1000), "m", LIMIT));
    use_model(&mut pool, at(22), "m", Some(&seconds("a", 1)));
    assert!(!pool.is_idle_for(at(119), "m", LIMIT));
    // Zero in the configuration means never.
    assert!(!pool.is_idle_for(at(1000), "m", Duration::ZERO));
    pool.unload_idle(at(120), "m", LIMIT);
    assert!(!pool.is_wanted("m"));
    let unloading = PoolEvent::Unloading { model: "m".into() };
    assert_eq!(pool.take_events(), [unloading]);
}

#[test]
fn it_is_unloaded_when_no_keep_alive_is_left() {
    let is_unloaded = |pool: &mut Residency| {
        use_model(pool, at(20), "m", Some(&seconds("a", 0)));
        !pool.is_wanted("m")
    };
    let forever = keep_alive("b", KeepAlive::Forever);
    let mut pool = loaded(false);
    assert_eq!(pool.stays_until("m", LIMIT), Some(at(110)));
    use_model(&mut pool, at(19), "m", Some(&forever));
    assert!(!is_unloaded(&mut pool));
    use_model(&mut pool, at(19), "m", Some(&seconds("b", 0)));
    assert!(!pool.is_wanted("m"));

    let mut pool = loaded(false);
    use_model(&mut pool, at(20), "another", Some(&seconds("a", 0)));
    assert!(pool.is_wanted("m"));
    let cookie = pool.holds.add(":1.1", "m", "").unwrap();
    assert!(!is_unloaded(&mut pool));
    pool.holds.release(":1.1", cookie);
    pool.pinned = vec!["m".into()];
    assert!(!is_unloaded(&mut pool));
    pool.pinned.clear();
    assert!(is_unloaded(&mut pool));
    // An unload on request discards the keep-alives.
    let mut pool = loaded(false);
    use_model(&mut pool, at(19), "m", Some(&forever));
    pool.unload("m");
    assert_eq!(pool.stays_until("m", LIMIT), Some(at(110)));
}

#[test]
fn a_caller_hears_of_its_own_model_only() {
    let mut pool = loaded(false);
    let (sender, mut first) = oneshot::channel();
    pool.want("a", NORMAL, Some(sender), false);
    let (sender, mut second) = oneshot::channel();
    pool.want("b", NORMAL, Some(sender), false);
    let failure = Failure::new(FailureKind::ModelInvalid, "damaged");
    pool.load_failed("a", &failure);
    assert_eq!(first.try_recv().unwrap(), Err(failure.clone()));
    assert_eq!(pool.status().failed, Some(failure));
    assert!(second.try_recv().is_err());
    admit(&mut pool, at(13), "b");
    assert_eq!(pool.status().failed, None, "another one was requested");
    pool.loaded_now(at(14), "b", info(ModelKind::Chat));
    assert_eq!(second.try_recv().unwrap(), Ok(()));
    assert!(pool.is_ready("m") && pool.is_ready("b"));
}

#[test]
fn who_waits_for_a_load_hears_of_an_unload() {
    let mut pool = Residency::default();
    let (sender, mut waiter) = oneshot::channel();
    pool.want("m", NORMAL, Some(sender), false);
    pool.unload_all();
    let kind = waiter.try_recv().unwrap().unwrap_err().kind;
    assert_eq!(kind, FailureKind::Busy);
    assert!(pool.get("m").is_none(), "nothing is left of it");
}

#[test]
fn models_are_loaded_by_class_then_in_turn() {
    let mut pool = Residency::default();
    pool.want("a", Priority::Background, None, false);
    pool.want("b", NORMAL, None, false);
    pool.want("c", NORMAL, None, false);
    let turns = |pool: &Residency| ["a", "b", "c"].map(|model| pool.turn(model));
    assert_eq!(turns(&pool), [Turn::Later, Turn::Now, Turn::Later]);
    // A caller of a higher class wants it too.
    pool.want("c", Priority::Interactive, None, false);
    assert_eq!(turns(&pool), [Turn::Later, Turn::Later, Turn::Now]);
    admit(&mut pool, at(5), "c");
    assert_eq!(turns(&pool), [Turn::Later, Turn::Now, Turn::Never]);
    // A crashed one does not keep the others from being loaded.
    pool.entry("b").is_pausing = true;
    assert_eq!(turns(&pool), [Turn::Now, Turn::Never, Turn::Never]);
}

#[test]
fn a_model_serves_before_it_makes_room() {
    let mut pool = loaded(false);
    let limits = Limits::default();
    assert!(!pool.retire_when_worked(at(11), "m"));
    assert!(pool.is_wanted("m"), "the request that it was loaded for");
    let slot = pool.slot(at(11), "m", NORMAL, &limits).unwrap();
    assert!(!pool.retire_when_worked(at(11), "m"), "it has a turn");
    assert!(pool.retire_when_worked(at(12), "m"));
    let retiring = PoolEvent::Retiring { model: "m".into() };
    assert_eq!(pool.take_events(), [retiring]);
    assert!(pool.slot(at(12), "m", NORMAL, &limits).is_none());
    assert!(!pool.end_unwanted("m"), "its answer is finished first");
    // Wanted again meanwhile, it waits for its next engine.
    pool.want("m", NORMAL, None, false);
    assert_eq!(pool.turn("m"), Turn::Never);
    drop(slot);
    assert!(pool.end_unwanted("m"));
    pool.ended(at(13), "m", false);
    assert_eq!(pool.turn("m"), Turn::Now);
}

#[test]
fn the_class_of_a_use_counts_for_a_minute() {
    let mut pool = loaded(false);
    let limits = Limits::default();
    let is_above = |pool: &Residency, seconds| pool.is_above(at(seconds), "m", "n");
    pool.want("n", NORMAL, None, false);
    drop(pool.slot(at(20), "m", Priority::Interactive, &limits));
    drop(pool.slot(at(30), "m", Priority::Background, &limits));
    assert!(is_above(&pool, 79) && !is_above(&pool, 80));
    drop(pool.slot(at(90), "m", NORMAL, &limits));
    assert!(!is_above(&pool, 91), "of the same class");
}

#[test]
fn what_generates_is_shown_first() {
    let mut pool = loaded(false);
    admit(&mut pool, at(20), "embedder");
    pool.loaded_now(at(21), "embedder", info(ModelKind::Embedding));
    admit(&mut pool, at(22), "n");
    pool.loaded_now(at(23), "n", info(ModelKind::Chat));
    let names = |pool: &Residency| -> Vec<String> {
        let resident = pool.status().resident;
        resident.into_iter().map(|model| model.name).collect()
    };
    assert_eq!(names(&pool), ["n", "m", "embedder"]);
    pool.slot(at(30), "m", NORMAL, &Limits::default()).unwrap();
    assert_eq!(names(&pool), ["m", "n", "embedder"]);
}

#[test]
fn limits_are_divided_before_the_work_begins() {
    let mut pool = loaded(false);
    admit(&mut pool, at(20), "n");
    pool.loaded_now(at(21), "n", info(ModelKind::Chat));
    let limits = Limits {
        threads: 4,
        ..Limits::default()
    };
    let threads = |pool: &Residency| {
        ["m", "n"].map(|model| {
            pool.get(model)
                .unwrap()
                .engine
                .as_ref()
                .unwrap()
                .limits
                .threads
        })
    };
    let of_m = pool.slot(at(22), "m", NORMAL, &limits).unwrap();
    assert_eq!(threads(&pool), [4, 4]);
    let of_n = pool.slot(at(22), "n", NORMAL, &limits).unwrap();
    assert_eq!(threads(&pool), [2, 2]);
    drop(of_m);
    assert_eq!(pool.divide(at(23), &limits), None);
    assert_eq!(threads(&pool), [4, 4]);
    drop(of_n);
}
