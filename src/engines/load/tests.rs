use super::*;
use hearth_gguf::Shape;
use hearth_proto::KvType;

/// A billion parameters in eight bits, and a cache of 32 KiB per token.
fn model(header: bool) -> StoredModel {
    let mut full = only_weights(1 << 30);
    full.context_train = 8192;
    full.shape = Shape {
        blocks: 16,
        width: 2048,
        heads: 32,
        kv_heads: vec![8],
        vocabulary: 32_000,
        ..Shape::default()
    };
    StoredModel {
        name: "m".into(),
        path: "m.gguf".into(),
        size_bytes: 1 << 30,
        modified_s: 0,
        packaged: false,
        header: if header {
            Ok(Arc::new(full))
        } else {
            Err("no".into())
        },
    }
}

fn memory(available_mib: u64) -> Memory {
    Memory {
        total: Some(Bytes::mib(4096)),
        available: Some(Bytes::mib(available_mib)),
        ..Memory::default()
    }
}

#[test]
fn the_client_estimates_with_the_default_configuration() {
    assert_eq!(Wanted::from(&Config::default()), Wanted::default());
}

#[test]
fn a_board_with_less_memory_gets_a_smaller_context() {
    let config = Config::default();
    let fitted = |mib| admit(&config, &model(true), 4, &memory(mib)).map(|(_, f)| f);
    let whole = fitted(3000).unwrap();
    assert_eq!((whole.settings.context, whole.settings.kept), (4096, 2048));
    assert_eq!(whole.note, "");
    let small = fitted(1480).unwrap();
    assert!((2048..4096).contains(&small.settings.context), "{small:?}");
    assert!(small.note.contains("instead of 4096"), "{}", small.note);
    let refused = fitted(1000).unwrap_err();
    assert!(refused.to_string().contains("would fit"), "{refused}");
}

#[test]
fn a_model_is_admitted_if_the_memory_is_unknown() {
    let config = Config::default();
    let (_, fitted) = admit(&config, &model(true), 4, &Memory::default()).unwrap();
    assert_eq!(fitted.settings.context, 4096);
    let (_, fitted) = admit(&config, &model(false), 4, &memory(3000)).unwrap();
    assert_eq!(fitted.settings.context, config.model.context_max);
    assert!(admit(&config, &model(false), 4, &memory(1000)).is_err());
}

#[test]
fn the_configured_context_may_exceed_the_trained_one() {
    let mut config = Config::default();
    config.model.context = 16_384;
    config.model.kv_type = KvType::Q8_0;
    let (_, fitted) = admit(&config, &model(true), 4, &memory(4000)).unwrap();
    assert_eq!(fitted.settings.context, 16_384);
    assert_eq!(fitted.settings.kv_type, KvType::Q8_0);
}
