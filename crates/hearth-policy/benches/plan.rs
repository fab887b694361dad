//! Cost of the scheduler: planning a tick, and ordering the queue.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hearth_policy::scheduler::{Batch, Caller, Queue, Slots};
use hearth_proto::{Limits, Priority};

fn plan(c: &mut Criterion) {
    for count in [1, 8] {
        let mut slots = Slots::new(count, count, 128);
        let now = Duration::ZERO;
        while slots.take(now, Priority::Normal, 1000, 999).is_some() {}
        let limits = Limits::default();
        let mut batch = Batch::default();
        c.bench_function(&format!("plan and apply, {count} slots"), |b| {
            b.iter(|| {
                slots.plan(now, black_box(&limits), &mut batch);
                for step in batch.steps() {
                    slots.apply(now, *step);
                    slots.extend(step.slot, 1);
                }
            });
        });
    }
}

fn queue(c: &mut Criterion) {
    let classes = [
        Priority::Interactive,
        Priority::Normal,
        Priority::Background,
    ];
    let mut full = Queue::default();
    for n in 0..64u32 {
        let at = Duration::from_millis(u64::from(n));
        let caller = Caller {
            uid: n % 5,
            connection: u64::from(n % 7),
        };
        full.push(at, n, classes[n as usize % 3], caller, n);
    }
    let now = Duration::from_secs(90);
    c.bench_function("next of 64 waiting", |b| {
        b.iter(|| black_box(&full).peek(now).copied());
    });
    c.bench_function("position among 64 waiting", |b| {
        b.iter(|| black_box(&full).position(now, 63));
    });
}

criterion_group!(benches, plan, queue);
criterion_main!(benches);
