//! Rotation factors follow the requested context, regardless of the size of the cache.

use hearth_proto::LoadRequest;

use super::cold::{Cold, difference, first_of};
use super::{Case, disk, shut_down, start, synthetic};

/// The original context of the synthetic model.
const ORIGINAL: u32 = 1024;

fn with(case: &Case, context_size: u32, kept_tokens: u32) -> LoadRequest {
    LoadRequest {
        context_size,
        kept_tokens,
        ..case.load.clone()
    }
}

#[test]
fn the_context_asked_for_chooses_the_factors() {
    let case = synthetic("long-rope");
    let asked = case.prompt(0, "What is on?");
    let of = |context, kept| Cold::new(&with(&case, context, kept)).of(&asked);
    let (short, noise) = of(ORIGINAL, 0);
    for kept in [256, 4096] {
        let (first, _) = of(ORIGINAL, kept);
        assert!(difference(&short, &first) <= noise, "{kept}");
    }
    let (long, _) = of(ORIGINAL + 256, 0);
    let far = difference(&short, &long);
    println!("the other factors are off by {far:.4}, noise {noise:.4}");
    assert!(far > 2.0 * noise);
    std::fs::remove_file(case.path).unwrap();
}

#[test]
fn what_was_computed_with_other_factors_is_not_used() {
    let case = synthetic("long-rope");
    let dir = tempfile::tempdir().unwrap();
    let load = |context| LoadRequest {
        cache: Some(disk(dir.path())),
        ..with(&case, context, 1024)
    };
    let mut engine = start(&load(ORIGINAL));
    for (id, question) in [(1, "What is on?"), (2, "And the hall?")] {
        first_of(&mut engine, id, &case.prompt(0, question));
    }
    shut_down(engine);
    // Less context, the same factors.
    let mut same = start(&load(ORIGINAL - 128));
    assert!(first_of(&mut same, 1, &case.prompt(0, "Who asks?")).cached > 0);
    drop(same);
    let mut other = start(&load(2 * ORIGINAL));
    assert_eq!(
        first_of(&mut other, 1, &case.prompt(0, "Who asks?")).cached,
        0
    );
    std::fs::remove_file(case.path).unwrap();
}
