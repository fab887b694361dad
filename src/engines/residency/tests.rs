use std::sync::Arc;

use hearth_policy::holds::Client;
use hearth_proto::{ChatAbilities, KeepAlive, ModelKind};

use super::*;

const LIMIT: Duration = Duration::from_secs(100);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A model `m` that was loaded at 10 s, for a caller with or without a keep-alive of
/// its own.
fn loaded(sets_keep_alive: bool) -> Residency {
    let mut pool = Residency::default();
    let (waiter, _) = oneshot::channel();
    assert_eq!(
        pool.want("m", Some(waiter), sets_keep_alive),
        Consequence::None
    );
    let (commands, _) = mpsc::unbounded_channel();
    pool.engine = Some(Engine {
        model: "m".into(),
        commands,
        pid: None,
        info: None,
        is_ending: false,
        limits: Limits::default(),
        file: FileId::default(),
        note: String::new(),
        slots: Slots::new(Arc::default()),
    });
    let info = ModelInfo {
        description: String::new(),
        kind: ModelKind::Chat,
        parameters: 0,
        size_bytes: 0,
        context_size: 1,
        context_train: 1,
        slots: 1,
        kv_tokens: 1,
        kv_token_bytes: 1,
        vocab_size: 1,
        cpu: String::new(),
        has_chat_template: false,
        chat: ChatAbilities::default(),
        load_ms: 0,
    };
    assert!(pool.loaded_now(at(10), info));
    pool
}

/// A use that no other caller waits behind.
fn use_model(pool: &mut Residency, now: Duration, model: &str, keep: Option<&Keep>) {
    _ = pool.used(now, model, keep, false);
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
    let until = |pool: &Residency| pool.stays_until(LIMIT);
    // A caller with a keep-alive has loaded it, and may be about to send a request.
    let mut pool = loaded(true);
    assert_eq!(until(&pool), Some(at(10) + HEARTBEAT));
    use_model(&mut pool, at(12), "m", Some(&seconds("a", 30)));
    assert_eq!(until(&pool), Some(at(42)));
    use_model(&mut pool, at(13), "m", Some(&seconds("b", 10)));
    use_model(
        &mut pool,
        at(14),
        "another",
        Some(&keep_alive("c", KeepAlive::Forever)),
    );
    assert_eq!(until(&pool), Some(at(42)));
    use_model(&mut pool, at(20), "m", None);
    assert_eq!(until(&pool), Some(at(120)));
    use_model(
        &mut pool,
        at(21),
        "m",
        Some(&keep_alive("a", KeepAlive::Forever)),
    );
    assert_eq!(until(&pool), None);
    assert_eq!(pool.unload_idle(at(1000), LIMIT), Consequence::None);
    use_model(&mut pool, at(22), "m", Some(&seconds("a", 1)));
    assert_eq!(pool.unload_idle(at(119), LIMIT), Consequence::None);
    // Zero in the configuration means never.
    let never = pool.unload_idle(at(1000), Duration::ZERO);
    assert_eq!(never, Consequence::None);
    assert_eq!(pool.unload_idle(at(120), LIMIT), Consequence::Unload);
    assert_eq!(pool.wanted(), None);
}

#[test]
fn it_is_unloaded_when_no_keep_alive_is_left() {
    let is_unloaded = |pool: &mut Residency| {
        use_model(pool, at(20), "m", Some(&seconds("a", 0)));
        pool.wanted().is_none()
    };
    let mut pool = loaded(false);
    assert_eq!(pool.stays_until(LIMIT), Some(at(110)));
    use_model(
        &mut pool,
        at(19),
        "m",
        Some(&keep_alive("b", KeepAlive::Forever)),
    );
    assert!(!is_unloaded(&mut pool));
    use_model(&mut pool, at(19), "m", Some(&seconds("b", 0)));
    assert!(pool.wanted().is_none());

    let mut pool = loaded(false);
    use_model(&mut pool, at(20), "another", Some(&seconds("a", 0)));
    assert_eq!(pool.wanted(), Some("m"));
    let cookie = pool.inhibitors.add(":1.1").unwrap();
    assert!(!is_unloaded(&mut pool));
    pool.inhibitors.release(":1.1", cookie);
    assert!(is_unloaded(&mut pool));
    // An unload on request discards the keep-alives.
    let mut pool = loaded(false);
    use_model(
        &mut pool,
        at(19),
        "m",
        Some(&keep_alive("b", KeepAlive::Forever)),
    );
    assert_eq!(pool.unload(), Consequence::Unload);
    assert_eq!(pool.stays_until(LIMIT), Some(at(110)));
}

#[test]
fn a_caller_hears_of_its_own_model_only() {
    let mut pool = loaded(false);
    let (sender, mut first) = oneshot::channel();
    assert_eq!(pool.want("a", Some(sender), false), Consequence::Replace);
    let (sender, mut second) = oneshot::channel();
    assert_eq!(pool.want("b", Some(sender), false), Consequence::Replace);
    // Its model fails while the other one is wanted already.
    let failure = Failure::new(FailureKind::ModelInvalid, "damaged");
    pool.load_failed("a", &failure);
    assert_eq!(first.try_recv().unwrap(), Err(failure));
    assert!(second.try_recv().is_err());
    assert_eq!(pool.status().failed, None);
    assert_eq!(pool.wanted(), Some("b"));
    // Or is ready at that moment.
    let info = pool.engine.as_ref().unwrap().info.clone().unwrap();
    pool.loaded_now(at(20), info);
    assert!(second.try_recv().is_err());
    pool.load_failed("b", &Failure::new(FailureKind::OutOfMemory, "too large"));
    let kind = second.try_recv().unwrap().unwrap_err().kind;
    assert_eq!(kind, FailureKind::OutOfMemory);
    assert_eq!(pool.wanted(), None);
}

#[test]
fn who_waits_for_a_load_hears_of_an_unload() {
    let mut pool = Residency::default();
    let (sender, mut waiter) = oneshot::channel();
    assert_eq!(pool.want("m", Some(sender), false), Consequence::None);
    assert_eq!(pool.unload(), Consequence::Unload);
    let kind = waiter.try_recv().unwrap().unwrap_err().kind;
    assert_eq!(kind, FailureKind::Busy);
}
