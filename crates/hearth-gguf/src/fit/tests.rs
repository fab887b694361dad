use hearth_proto::EngineShape;
use hearth_proto::reading::Memory;
use proptest::prelude::*;

use super::super::settings::kept_tokens;
use super::super::{Repack, budget, cell_bytes, context, sequences};
use super::*;
use crate::{ElementType, Place, Shape, Weights};

/// Qwen2.5-1.5B's dimensions, with weights of one type.
fn header(element: ElementType) -> Header {
    let weights = |place, elements: u64| Weights {
        place,
        element,
        bytes: element.bytes(elements),
        in_eights: element.bytes(elements),
    };
    Header {
        architecture: "qwen2".into(),
        context_train: 32_768,
        parameters: 1_543_000_000,
        shape: Shape {
            blocks: 28,
            width: 1536,
            feed_forward: 8960,
            heads: 12,
            kv_heads: vec![2],
            vocabulary: 151_936,
            merges: 151_387,
            ..Shape::default()
        },
        weights: vec![
            weights(Place::Embedding, 233_000_000),
            weights(Place::Block, 1_310_000_000),
        ],
        ..Header::default()
    }
}

fn mib(n: u64) -> Budget {
    Budget::all(Bytes::mib(n))
}

/// Running and kept sequences of a model with one slot.
fn counts(header: &Header) -> (u32, u32) {
    let sequences = sequences(header, &EngineShape::DEFAULT, 1, 1);
    (sequences.running, sequences.kept)
}

fn wanted() -> Settings {
    Settings {
        kept: 4096,
        ..Settings::plain(8192)
    }
}

#[test]
fn the_kv_size_is_llama_cpps() {
    let h = header(ElementType::Q8_0);
    // 28 blocks, 2 heads, 128 wide, keys and values, 2 bytes.
    assert_eq!(cell_bytes(&h, KvType::F16), 28 * 2 * 128 * 2 * 2);
    assert_eq!(cell_bytes(&h, KvType::Q8_0), 28 * 2 * (136 + 256));
    assert_eq!(
        estimate(&h, &Settings::plain(4000)).kv.0,
        4096 * 28_672,
        "rounded up to 256 cells"
    );
    let mut odd = h.clone();
    odd.shape.key_length = 80;
    assert_eq!(usable_kv_type(&odd, KvType::Q8_0), KvType::F16);
    let mut hybrid = h;
    hybrid.shape.kv_heads = [0, 2].repeat(14);
    assert_eq!(cell_bytes(&hybrid, KvType::F16), 14 * 1024);
    hybrid.shape.recurrent.attention_interval = 4;
    assert_eq!(cell_bytes(&hybrid, KvType::F16), 7 * 1024);
}

#[test]
fn the_size_of_a_state_does_not_depend_on_the_context() {
    let mut h = header(ElementType::Q8_0);
    h.shape.heads = 0;
    h.shape.kv_heads.clear();
    h.shape.recurrent.conv_kernel = 4;
    h.shape.recurrent.inner_size = 3072;
    h.shape.recurrent.state_size = 16;
    let kv = |context, kept| {
        let settings = Settings {
            kept,
            ..Settings::plain(context)
        };
        estimate(&h, &settings).kv
    };
    let state = 28 * 4 * (3 * 3072 + 16 * 3072);
    assert_eq!(kv(2048, 0), Bytes(state));
    assert_eq!(kv(2048, 0), kv(32_768, 0));
    // One for each class, and as many as fit into 64 MiB.
    assert_eq!(counts(&h), (3, 10));
    assert_eq!(
        (kv(2048, 1), kv(2048, 9999)),
        (Bytes(13 * state), Bytes(13 * state))
    );
    assert_eq!(
        kept_tokens(&h, &EngineShape::DEFAULT, Bytes::mib(64), KvType::F16),
        32_768
    );
    assert_eq!(
        kept_tokens(&h, &EngineShape::DEFAULT, Bytes(0), KvType::F16),
        0
    );
    // Large ones: few are kept, and none for a preempted request.
    h.shape.recurrent.state_size = 128;
    assert_eq!(counts(&h), (1, 3));
}

#[test]
fn repacked_weights_count_their_file_pages_as_reclaimable() {
    let h = header(ElementType::Q4_0);
    let plain = estimate(&h, &wanted());
    let packed = estimate(
        &h,
        &Settings {
            repack: Repack::Avx2,
            ..wanted()
        },
    );
    let size = |n| ElementType::Q4_0.bytes(n);
    assert_eq!(plain.weights.0, size(1_543_000_000));
    assert_eq!(plain.reclaimable.0, 0);
    // The embeddings are also the output matrix, and are needed in both layouts.
    assert_eq!(packed.weights.0, plain.weights.0 + size(233_000_000));
    assert_eq!(packed.reclaimable.0, size(1_310_000_000));
}

#[test]
fn the_wanted_context_is_the_model_s_within_bounds() {
    let mut h = header(ElementType::Q8_0);
    assert_eq!(context(&h, 0, 4096), 4096);
    assert_eq!(context(&h, 0, 65_536), 32_768);
    assert_eq!(context(&h, 1000, 512), 1000);
    assert_eq!(context(&h, 1, 512), 8);
    h.context_train = 0;
    assert_eq!(context(&h, 0, 4096), 4096);
    assert_eq!(
        kept_tokens(&h, &EngineShape::DEFAULT, Bytes::mib(64), KvType::F16),
        2340
    );
    assert_eq!(
        kept_tokens(&h, &EngineShape::DEFAULT, Bytes::mib(64_000), KvType::F16),
        32_768
    );
}

#[test]
fn reductions_come_in_order_prefix_cache_context_keys() {
    let h = header(ElementType::Q4_0);
    let need = |context, kv_type| {
        let settings = Settings {
            kv_type,
            ..Settings::plain(context)
        };
        estimate(&h, &settings).total
    };
    let with = |bytes: u64| fit(&h, &wanted(), Budget::all(Bytes(bytes)));

    let all = with(1 << 40).unwrap();
    assert_eq!(all.settings, wanted());
    assert_eq!(all.note, "");

    let whole = need(8192, KvType::F16).0;
    let no_kept = with(whole).unwrap();
    assert_eq!((no_kept.settings.context, no_kept.settings.kept), (8192, 0));
    assert_eq!(no_kept.note, "");

    let smaller = with(whole - 1).unwrap();
    assert_eq!(smaller.settings.context, 8192 - 256);
    assert!(
        smaller.note.contains("7936 tokens instead of 8192"),
        "{}",
        smaller.note
    );

    let least = need(2048, KvType::F16).0;
    assert_eq!(with(least).unwrap().settings.context, 2048);
    let eight_bit = with(least - 1).unwrap();
    assert_eq!(eight_bit.settings.kv_type, KvType::Q8_0);
    assert!(eight_bit.settings.context >= 2048);
    assert!(
        eight_bit.note.contains("q8_0 instead of f16"),
        "{}",
        eight_bit.note
    );

    let refused = with(need(2048, KvType::Q8_0).0 - 1).unwrap_err();
    assert_eq!(refused.settings.context, 2048);
}

#[test]
fn a_refusal_names_what_would_fit() {
    let memory = Memory {
        total: Some(Bytes::mib(4096)),
        available: Some(Bytes::mib(1500)),
        ..Memory::default()
    };
    let budget = budget(&memory).unwrap();
    let message = fit(&header(ElementType::Q8_0), &wanted(), budget)
        .unwrap_err()
        .to_string();
    for part in [
        "the model needs 1.7 GiB (weights 1.5 GiB, KV cache 42.9 MiB for 2048 tokens",
        "1.5 GiB are free and 327.7 MiB stay reserved",
        "a Q4_K_M of it (900.2 MiB) would fit",
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
    let small = fit(&header(ElementType::Q8_0), &wanted(), mib(300)).unwrap_err();
    assert!(small.to_string().contains("or less would fit"), "{small}");
    let none = fit(&header(ElementType::Q8_0), &wanted(), mib(0)).unwrap_err();
    assert!(none.to_string().contains("a board with more"), "{none}");
    let unknown = fit(&Header::default(), &wanted(), mib(0)).unwrap_err();
    assert_eq!(unknown.would_fit, WouldFit::Weights(Bytes(0)));
}

fn with_batch(micro_batch: u32) -> &'static EngineShape {
    Box::leak(Box::new(EngineShape {
        micro_batch,
        ..EngineShape::DEFAULT
    }))
}

prop_compose! {
    fn any_header()(
        blocks in 0u32..64, width in 0u32..8192, heads in 0u32..64,
        kv_heads in prop::collection::vec(0u32..32, 0..3), ff in 0u32..32_768,
        vocabulary in 0u32..300_000, window in 0u32..2, train in 0u32..200_000,
        bytes in 0u64..1 << 33, state in 0u32..2, interval in 0u32..5,
    ) -> Header {
        let mut h = header(ElementType::Q4_0);
        h.context_train = train;
        h.weights[1].bytes = bytes;
        h.weights[1].in_eights = bytes / 2;
        let recurrent = &mut h.shape.recurrent;
        (recurrent.inner_size, recurrent.state_size) = (state * 4096, state * 128);
        recurrent.attention_interval = interval;
        h.shape = Shape {
            blocks, width, heads, kv_heads, feed_forward: ff, vocabulary,
            sliding_window: window, ..h.shape
        };
        h
    }
}

prop_compose! {
    fn any_settings()(
        context in 8u32..40_000, kept in 0u32..40_000, q8: bool, batch in 1u32..1024,
        slots in 1u32..17, threads in 1u32..8, packed: bool, constraints: bool,
        embeddings: bool,
    ) -> Settings {
        Settings {
            context, kept, slots, threads, constraints, embeddings,
            engine: with_batch(batch),
            kv_type: if q8 { KvType::Q8_0 } else { KvType::F16 },
            repack: if packed { Repack::Avx2 } else { Repack::None },
        }
    }
}

proptest! {
    #[test]
    fn the_estimate_grows_with_every_setting(h in any_header(), s in any_settings(), by in 1u32..1000) {
        let total = |s: Settings| estimate(&h, &s).total;
        let before = total(s);
        let more = [
            Settings { context: s.context + by, ..s },
            Settings { kept: s.kept + by, ..s },
            Settings { engine: with_batch(s.engine.micro_batch + by), ..s },
            Settings { slots: s.slots + by, ..s },
            Settings { threads: s.threads + by, ..s },
            Settings { constraints: true, ..s },
            Settings { embeddings: true, ..s },
        ];
        for more in more {
            prop_assert!(total(more) >= before, "{more:?}");
        }
    }

    #[test]
    fn fits_are_within_the_budget_and_refusals_exceed_it(
        h in any_header(), s in any_settings(), bytes in 0u64..1 << 35,
    ) {
        let budget = Budget::all(Bytes(bytes));
        match fit(&h, &s, budget) {
            Ok(fitted) => {
                prop_assert!(fitted.estimate.total <= budget.usable());
                prop_assert_eq!(fitted.estimate, estimate(&h, &fitted.settings));
                prop_assert!(fitted.settings.context <= s.context);
                prop_assert!(fitted.settings.context >= smallest_context(&h, s.context));
                prop_assert!(fitted.settings.kept <= s.kept);
                let shrunk = fitted.settings.context < s.context;
                prop_assert!(!shrunk || !fitted.note.is_empty());
            }
            Err(refused) => {
                prop_assert!(refused.estimate.total > budget.usable());
                let least = Settings {
                    context: smallest_context(&h, s.context),
                    kept: 0,
                    kv_type: KvType::Q8_0,
                    ..s
                };
                prop_assert!(estimate(&h, &least).total > budget.usable());
                prop_assert!(!refused.to_string().is_empty());
            }
        }
    }

    #[test]
    fn absurd_headers_do_not_overflow(n: u32, s in any_settings(), bytes: u64) {
        let mut h = header(ElementType::Q4_0);
        h.shape = Shape {
            width: n, heads: n, feed_forward: n, vocabulary: n, merges: n, key_length: n,
            value_length: n, experts_used: n, expert_feed_forward: n, kv_heads: vec![n],
            ..h.shape
        };
        h.shape.recurrent.inner_size = n;
        h.shape.recurrent.state_size = n;
        h.shape.recurrent.group_count = n;
        h.weights[0].bytes = bytes;
        h.parameters = bytes;
        _ = fit(&h, &Settings { context: n, kept: n, engine: with_batch(n), ..s }, Budget::all(Bytes(bytes)));
    }
}
