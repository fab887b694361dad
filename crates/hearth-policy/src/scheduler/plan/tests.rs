use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const ZERO: Duration = Duration::ZERO;

fn limits(prefill_chunk: u32) -> Limits {
    Limits {
        prefill_chunk,
        ..Limits::default()
    }
}

fn slots(count: usize) -> Slots {
    Slots::new(count, count, 128)
}

fn take(slots: &mut Slots, known: u32, cached: u32) -> Option<SlotId> {
    slots.take(ZERO, Priority::Normal, known, cached)
}

fn planned(slots: &Slots, limits: &Limits) -> Vec<Work> {
    let mut batch = Batch::default();
    slots.plan(ZERO, limits, &mut batch);
    batch.steps().iter().map(|s| s.work).collect()
}

/// A tick in which each sequence that samples gets one more token.
fn step(slots: &mut Slots, limits: &Limits) -> Vec<Work> {
    let mut batch = Batch::default();
    slots.plan(ZERO, limits, &mut batch);
    for step in batch.steps() {
        slots.apply(ZERO, *step);
        if step.work.samples() {
            slots.extend(step.slot, 1);
        }
    }
    batch.steps().iter().map(|s| s.work).collect()
}

#[test]
fn a_prompt_is_computed_in_chunks_before_its_answer() {
    let mut slots = slots(1);
    take(&mut slots, 5, 0).unwrap();
    assert_eq!(take(&mut slots, 5, 0), None);
    let limits = limits(2);
    let prefill = |from, to, last| vec![Work::Prefill { from, to, last }];
    assert_eq!(step(&mut slots, &limits), prefill(0, 2, false));
    assert_eq!(step(&mut slots, &limits), prefill(2, 4, false));
    assert_eq!(step(&mut slots, &limits), prefill(4, 5, true));
    let decode = |from, to| vec![Work::Decode { from, to }];
    assert_eq!(step(&mut slots, &limits), decode(5, 6));
    // A constraint forced three more.
    slots.extend(SlotId(0), 3);
    assert_eq!(step(&mut slots, &limits), decode(6, 10));
    slots.park(SlotId(0));
    assert_eq!(step(&mut slots, &limits), prefill(0, 2, false));
}

#[test]
fn a_cached_prompt_still_decodes_its_last_token() {
    let mut slots = slots(1);
    take(&mut slots, 5, 5).unwrap();
    let work = planned(&slots, &limits(128));
    let last = Work::Prefill {
        from: 4,
        to: 5,
        last: true,
    };
    assert_eq!(work, [last]);
}

#[test]
fn a_pause_plans_nothing_and_a_chunk_of_zero_makes_progress() {
    let mut slots = slots(1);
    take(&mut slots, 3, 0).unwrap();
    let paused = Limits {
        paused: true,
        ..limits(8)
    };
    assert_eq!(planned(&slots, &paused), []);
    assert_eq!(planned(&slots, &limits(0))[0].tokens(), 1);
    assert_eq!(take(&mut slots, 0, 0), None);
}

#[test]
fn running_answers_go_before_a_long_prompt() {
    let mut slots = slots(2);
    take(&mut slots, 1, 0).unwrap();
    step(&mut slots, &limits(8));
    take(&mut slots, 100, 0).unwrap();
    let works = planned(&slots, &limits(8));
    assert_eq!(works[0], Work::Decode { from: 1, to: 2 });
    assert_eq!(works[1].tokens(), 8);
}

#[test]
fn a_preempted_background_request_continues_where_it_stopped() {
    let mut slots = Slots::new(4, 2, 128);
    let background = slots.take(ZERO, Priority::Background, 100, 0).unwrap();
    let mut batch = Batch::default();
    let limits = limits(10);
    step(&mut slots, &limits);
    let voice = slots.take(ZERO, Priority::Interactive, 3, 0).unwrap();
    slots.plan(ZERO, &limits, &mut batch);
    assert_eq!(batch.steps().len(), 1);
    assert_eq!(batch.steps()[0].slot, voice);
    slots.release(voice);
    slots.plan(ZERO, &limits, &mut batch);
    assert_eq!(batch.steps()[0].slot, background);
    assert_eq!(batch.steps()[0].work.range(), (10, 20));
    // Not forever: after a while it counts as normal work.
    slots.take(AGEING, Priority::Normal, 3, 0).unwrap();
    slots.plan(AGEING, &limits, &mut batch);
    assert_eq!(batch.steps()[0].slot, background);
    assert_eq!(slots.in_turn(ZERO).last(), Some(&background));
}

#[test]
fn running_requests_do_not_age() {
    let mut slots = Slots::new(2, 1, 128);
    let prompt = slots.take(ZERO, Priority::Background, 1000, 0).unwrap();
    let (mut batch, limits) = (Batch::default(), limits(10));
    // Minutes, on a slow board.
    for minute in 1..4 {
        let now = AGEING * minute;
        slots.plan(now, &limits, &mut batch);
        assert_eq!(batch.steps()[0].slot, prompt);
        slots.apply(now, batch.steps()[0]);
    }
    let voice = slots.take(AGEING * 3, Priority::Interactive, 3, 0).unwrap();
    slots.plan(AGEING * 3, &limits, &mut batch);
    assert_eq!(batch.steps()[0].slot, voice);
    // If it has to wait itself, it ages.
    assert_eq!(slots.class(AGEING * 4, prompt), Some(Priority::Normal));
}

#[test]
fn the_limits_bound_the_number_of_running_requests() {
    let mut slots = slots(2);
    take(&mut slots, 4, 0).unwrap();
    take(&mut slots, 4, 0).unwrap();
    let one = Limits {
        slots: 1,
        ..limits(64)
    };
    assert_eq!(step(&mut slots, &one).len(), 1);
    // The first continues, the other keeps its place.
    assert_eq!(planned(&slots, &one), [Work::Decode { from: 4, to: 5 }]);
    assert_eq!(planned(&slots, &limits(64)).len(), 2);
}

#[test]
fn a_parked_request_waits_until_another_one_ends() {
    let mut slots = slots(2);
    let first = take(&mut slots, 3, 0).unwrap();
    let second = take(&mut slots, 3, 0).unwrap();
    slots.park(second);
    let mut batch = Batch::default();
    slots.plan(ZERO, &limits(8), &mut batch);
    assert_eq!(batch.steps().len(), 1);
    assert_eq!(batch.steps()[0].slot, first);
    slots.release(first);
    slots.plan(ZERO, &limits(8), &mut batch);
    assert_eq!(batch.steps()[0].slot, second);
    // No other sequence is left to wait for.
    slots.park(second);
    slots.plan(ZERO, &limits(8), &mut batch);
    assert_eq!(batch.steps()[0].slot, second);
}

#[test]
fn requests_of_the_highest_classes_run() {
    let mut slots = Slots::new(3, 1, 128);
    take(&mut slots, 3, 0).unwrap();
    step(&mut slots, &limits(8));
    let voice = slots.take(ZERO, Priority::Interactive, 3, 0).unwrap();
    let mut batch = Batch::default();
    slots.plan(ZERO, &limits(8), &mut batch);
    assert_eq!(batch.steps().len(), 1);
    assert_eq!(batch.steps()[0].slot, voice);
}

/// One request of the property test.
#[derive(Clone, Debug)]
struct Job {
    known: u32,
    cached: u32,
    answer: u32,
    forced: u32,
    cancel_at: Option<usize>,
    class: Priority,
}

fn job() -> impl Strategy<Value = Job> {
    let class = prop::sample::select(vec![
        Priority::Interactive,
        Priority::Normal,
        Priority::Background,
    ]);
    let cancel_at = prop::option::of(0usize..20);
    (1u32..40, 0u32..40, 1u32..10, 0u32..4, cancel_at, class).prop_map(
        |(known, cached, answer, forced, cancel_at, class)| Job {
            known,
            cached,
            answer,
            forced,
            cancel_at,
            class,
        },
    )
}

/// State of a job of the property test.
struct Run {
    job: usize,
    known: u32,
    done: u32,
    answered: u32,
    ticks: usize,
}

proptest! {
    /// Every sequence ends exactly once, having decoded exactly its tokens, no slot leaks
    /// and no batch exceeds its bound, for any order of cancels, forced tokens and
    /// evictions from the KV cache. It is one loop, and its checks need all of its state.
    #[test]
    fn every_request_ends_exactly_once(
        jobs in prop::collection::vec(job(), 1..20),
        count in 1usize..6,
        width in 1usize..4,
        chunk in 0u32..16,
        batch_max in 4u32..24,
        restart_at in prop::option::of(0usize..40),
    ) {
        let mut slots = Slots::new(count, width, batch_max);
        let mut waiting: Vec<usize> = (0..jobs.len()).rev().collect();
        let mut running: HashMap<SlotId, Run> = HashMap::new();
        let mut ended = vec![0; jobs.len()];
        let limits = limits(chunk);
        let mut batch = Batch::default();
        let mut tick = 0;
        while !waiting.is_empty() || !running.is_empty() {
            let now = Duration::from_millis(tick as u64);
            while let Some(at) = waiting.last().copied() {
                let job = &jobs[at];
                let Some(slot) = slots.take(now, job.class, job.known, job.cached) else { break };
                let run = Run { job: at, known: job.known, done: job.cached.min(job.known - 1), answered: 0, ticks: 0 };
                prop_assert!(running.insert(slot, run).is_none());
                waiting.pop();
            }
            if restart_at == Some(tick)
                && let Some((slot, run)) = running.iter_mut().next()
            {
                slots.park(*slot);
                run.done = 0;
            }
            tick += 1;
            slots.plan(now, &limits, &mut batch);
            let steps = batch.steps().to_vec();
            prop_assert!(!steps.is_empty() && steps.len() <= width);
            prop_assert!(steps.iter().map(|s| s.work.tokens()).sum::<u32>() <= batch_max);
            let background = steps.iter().any(|s| jobs[running[&s.slot].job].class == Priority::Background);
            let others = steps.iter().any(|s| jobs[running[&s.slot].job].class != Priority::Background);
            prop_assert!(!(background && others));
            for step in steps {
                let run = running.get_mut(&step.slot).unwrap();
                let job = &jobs[run.job];
                if job.cancel_at.is_some_and(|at| run.ticks >= at) {
                    ended[run.job] += 1;
                    slots.release(step.slot);
                    running.remove(&step.slot);
                    continue;
                }
                let (from, to) = step.work.range();
                prop_assert_eq!(from, run.done);
                prop_assert!(to > from && to <= run.known);
                prop_assert_eq!(step.work.samples(), to == run.known);
                slots.apply(now, step);
                run.done = to;
                run.ticks += 1;
                if step.work.samples() {
                    run.answered += 1;
                    run.known += 1 + job.forced;
                    slots.extend(step.slot, 1 + job.forced);
                }
                if run.answered == job.answer {
                    ended[run.job] += 1;
                    slots.release(step.slot);
                    running.remove(&step.slot);
                }
            }
        }
        prop_assert!(ended.iter().all(|n| *n == 1));
        prop_assert_eq!(slots.free(), count);
    }
}

#[test]
fn a_batch_has_one_set_of_adapters_and_each_takes_its_turn() {
    let mut slots = slots(3);
    let plain = take(&mut slots, 1, 0).unwrap();
    let tuned = [take(&mut slots, 1, 0), take(&mut slots, 1, 0)].map(Option::unwrap);
    for slot in tuned {
        slots.set_adapters(slot, 7);
    }
    let mut batch = Batch::default();
    let (mut served, mut seen) = (HashMap::new(), Vec::new());
    for _ in 0..64 {
        slots.plan(ZERO, &limits(8), &mut batch);
        slots.begin(&batch);
        let has_plain = batch.has(plain);
        assert!(!(has_plain && tuned.iter().any(|slot| batch.has(*slot))));
        seen.push(has_plain);
        for step in batch.steps() {
            *served.entry(step.slot).or_insert(0) += 1;
            slots.apply(ZERO, *step);
            slots.extend(step.slot, 1);
        }
    }
    assert_eq!(served[&plain], 32);
    assert!(tuned.iter().all(|slot| served[slot] > 24), "{served:?}");
    let changes = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 7);
}
