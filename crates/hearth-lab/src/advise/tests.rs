use hearth_gguf::Header;
use hearth_gguf::fit::Settings;
use hearth_proto::units::Bytes;

use super::*;

fn candidate(name: &str, file_bytes: u64, divergence: f64, speed: f64) -> Candidate {
    Candidate {
        path: name.into(),
        file_bytes,
        fits: true,
        total_bytes: file_bytes,
        context: 4096,
        kv_type: KvType::F16,
        divergence: Some(divergence),
        divergence_error: Some(divergence / 20.0),
        decode_tokens_per_s: Some(speed),
        note: String::new(),
        has_whole_context: true,
        identity: Identity::default(),
    }
}

fn too_large(name: &str, bytes: u64) -> Candidate {
    let settings = Settings::plain(2048);
    let no = fit(&Header::default(), &settings, Budget::all(Bytes::mib(1))).unwrap_err();
    Candidate {
        fits: false,
        note: format!("{name}: {no}"),
        ..candidate(name, bytes, 0.0, 1.0)
    }
}

fn chosen(candidates: &[Candidate], min_speed: Option<u32>) -> String {
    let choice = choose(candidates, min_speed).unwrap();
    candidates[choice.index].path.display().to_string()
}

#[test]
fn the_smallest_with_a_negligible_divergence_is_chosen() {
    let all = || {
        vec![
            too_large("f16", 2000),
            candidate("q8", 1000, 0.001, 10.0),
            candidate("q6", 800, 0.004, 12.0),
            candidate("q4", 500, 0.05, 18.0),
        ]
    };
    assert_eq!(chosen(&all(), None), "q6");
    let why = choose(&all(), None).unwrap().reason;
    assert!(why.contains("of 3 that fit"), "{why}");
    assert!(why.contains("0.0040 ± 0.0002"), "{why}");
    assert!(
        why.contains("q8") && why.contains("12.0 against 10.0"),
        "{why}"
    );
    // Only those that are fast enough; then the least loss.
    assert_eq!(chosen(&all(), Some(15)), "q4");
    let why = choose(&all(), Some(50)).unwrap_err().to_string();
    assert!(why.contains("18.0 tokens/s"), "{why}");
}

#[test]
fn different_models_cause_a_warning() {
    let mut all = [
        candidate("q8", 1000, 0.001, 10.0),
        candidate("q4", 500, 0.05, 18.0),
    ];
    assert_eq!(warning(&all), None);
    let base = Identity {
        architecture: "qwen2".into(),
        name: "Qwen2.5 0.5B Instruct".into(),
        shape: [24, 896, 4864, 151_936],
    };
    all[0].identity = base.clone();
    for (other, part) in [
        (
            Identity {
                architecture: "llama".into(),
                ..base.clone()
            },
            "qwen2 and llama",
        ),
        (
            Identity {
                shape: [28, 1536, 8960, 151_936],
                ..base.clone()
            },
            "dimensions",
        ),
        (
            Identity {
                name: "Qwen2.5 Coder 0.5B".into(),
                ..base.clone()
            },
            "Coder",
        ),
    ] {
        all[1].identity = other;
        let warning = warning(&all).unwrap();
        assert!(
            warning.contains("q8 and q4") && warning.contains(part),
            "{warning}"
        );
    }
    all[1].identity = base;
    assert_eq!(warning(&all), None);
}

#[test]
fn a_whole_context_is_preferred_to_a_better_type() {
    let mut small_context = candidate("q8", 1000, 0.001, 10.0);
    small_context.has_whole_context = false;
    let all = [small_context, candidate("q4", 500, 0.05, 18.0)];
    assert_eq!(chosen(&all, None), "q4");
}

#[test]
fn without_a_fitting_file_the_reason_is_that_of_the_smallest() {
    let why = choose(&[too_large("a", 2), too_large("b", 1)], None)
        .unwrap_err()
        .to_string();
    assert!(why.contains("b: the model needs"), "{why}");
    let mut one = candidate("q4", 500, 0.05, 18.0);
    (one.divergence, one.divergence_error) = (None, None);
    let choice = choose(&[one, too_large("a", 2)], None).unwrap();
    assert_eq!(choice.reason, "the only one that fits");
}
