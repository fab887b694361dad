//! LoRA adapters: each set of them gives its own answers, also beside others, and shares no
//! computed prompt with another.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use hearth_proto::{
    AdapterFile, AdapterRef, Command, DiskCache, Event, FailureKind, GenerateRequest, LoadRequest,
    Lora, Prompt, Reuse,
};

use crate::ENGINE;
use crate::harness::{Answer, Engine, load, random_model, request, tiny_model};

const PROMPT: &str = "The lamp in the kitchen is on, and it is evening. What is to be done now?";

/// An adapter of random weights for a model.
pub fn adapter(base: &Path, name: &str, seed: u32) -> AdapterFile {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path: PathBuf = folder.join(format!("{name}-{seed}-{}.gguf", std::process::id()));
    let made = Process::new(ENGINE)
        .args(["make-adapter", "--strength", "0.5", "--seed"])
        .arg(seed.to_string())
        .arg("--base")
        .arg(base)
        .arg("--out")
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    AdapterFile {
        name: name.into(),
        bytes: path.metadata().unwrap().len(),
        path,
    }
}

/// The small model with two adapters.
fn wanted(test: &str) -> LoadRequest {
    LoadRequest {
        kept_tokens: 2048,
        slots: 4,
        adapters: [("tone", 1), ("brief", 2)]
            .map(|(name, seed)| AdapterFile {
                name: name.into(),
                ..adapter(tiny_model(), &format!("{test}-{name}"), seed)
            })
            .into(),
        ..load(tiny_model())
    }
}

fn start(wanted: &LoadRequest) -> Engine {
    let mut engine = Engine::start(&[]);
    engine.load(wanted).unwrap();
    engine
}

/// A set of adapters and scales.
type Set = &'static [(&'static str, f32)];

const SETS: [Set; 5] = [
    &[],
    &[("tone", 1.0)],
    &[("tone", 0.5)],
    &[("brief", 1.0)],
    &[("tone", 0.5), ("brief", -0.5)],
];

fn ask(id: u64, set: Set) -> GenerateRequest {
    let mut request = GenerateRequest {
        max_tokens: Some(24),
        uid: Some(1000),
        lora: set
            .iter()
            .map(|(name, scale)| Lora {
                adapter: AdapterRef::Name((*name).into()),
                scale: *scale,
            })
            .collect(),
        ..request(id, Prompt::Text(PROMPT.into()))
    };
    request.sampling.ignore_eos = true;
    request
}

fn text(answer: &Answer) -> &str {
    assert!(matches!(answer.end, Some(Ok(_))), "{:?}", answer.end);
    &answer.text
}

#[test]
fn each_set_gives_the_same_answer_alone_and_beside_others() {
    let wanted = wanted("sets");
    let alone: Vec<String> = (1..)
        .zip(SETS)
        .map(|(id, set)| text(&start(&wanted).ask(ask(id, set))).to_owned())
        .collect();
    for (n, one) in alone.iter().enumerate() {
        assert!(
            !alone[..n].contains(one),
            "{:?} changes nothing: {alone:?}",
            SETS[n]
        );
    }
    let mut engine = start(&wanted);
    let ids = [1, 2, 3, 4, 5];
    for (id, set) in ids.into_iter().zip(SETS) {
        engine.send(&Command::Generate(ask(id, set)));
    }
    let together = engine.collect_all(&ids);
    let together: Vec<&str> = together.iter().map(text).collect();
    assert_eq!(together, alone);
    // A scale of zero is no adapter, and a reproducible request has its adapters, too.
    assert_eq!(text(&engine.ask(ask(6, &[("tone", 0.0)]))), alone[0]);
    let reproducible = GenerateRequest {
        reuse: Reuse::Reproducible,
        ..ask(7, SETS[1])
    };
    assert_eq!(text(&engine.ask(reproducible)), alone[1]);
}

#[test]
fn no_set_uses_what_another_one_computed() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = LoadRequest {
        cache: Some(DiskCache {
            folder: dir.path().to_owned(),
            max_bytes: 100 << 20,
            daily_write_bytes: 100 << 20,
            min_tokens: 16,
        }),
        ..wanted("cache")
    };
    let mut engine = start(&wanted);
    let mut texts = Vec::new();
    for (id, set) in (1..).zip(SETS) {
        let cold = engine.ask(ask(id, set));
        assert_eq!(cold.cached_tokens, 0, "{set:?}");
        texts.push(text(&cold).to_owned());
    }
    for (id, (set, cold)) in (11..).zip(SETS.iter().zip(&texts)) {
        let again = engine.ask(ask(id, set));
        assert!(again.cached_tokens > 60, "{set:?}: {}", again.cached_tokens);
        assert_eq!(text(&again), cold, "{set:?}");
    }
    // On disk likewise.
    let prewarm = |id, set| GenerateRequest {
        prewarm: true,
        ..ask(id, set)
    };
    engine.send(&Command::ForgetPrompts { uid: None });
    for (id, set) in [(21, SETS[0]), (22, SETS[1])] {
        assert_eq!(engine.ask(prewarm(id, set)).cached_tokens, 0, "{set:?}");
    }
    engine.send(&Command::Shutdown);
    assert_eq!(engine.wait(Duration::from_mins(1)).code(), Some(0));
    let mut engine = start(&wanted);
    for (id, (set, cold)) in (31..).zip(SETS.iter().zip(&texts)) {
        let answer = engine.ask(ask(id, set));
        let is_kept = id <= 32;
        assert_eq!(answer.cached_tokens > 0, is_kept, "{set:?}");
        assert_eq!(text(&answer), cold, "{set:?}");
    }
    // Another file under the same name is another adapter.
    drop(engine);
    let mut other = wanted.clone();
    other.adapters[0].path = adapter(tiny_model(), "other", 3).path;
    let answer = start(&other).ask(ask(41, SETS[1]));
    assert_eq!(answer.cached_tokens, 0);
    assert_ne!(text(&answer), texts[1]);
}

#[test]
fn an_adapter_of_another_base_is_refused_and_harms_no_other() {
    let wide = random_model("lora-wide", "2,192,256,4,2,600", "f16");
    let mut wanted = wanted("refused");
    wanted.adapters.push(AdapterFile {
        name: "wide".into(),
        ..adapter(&wide, "refused-wide", 1)
    });
    let whole = std::fs::read(&wanted.adapters[1].path).unwrap();
    // Its header is whole, its numbers are not.
    std::fs::write(&wanted.adapters[1].path, &whole[..whole.len() / 2]).unwrap();
    let mut engine = start(&wanted);
    for (id, name, why) in [(1, "wide", "another base"), (2, "brief", "cannot be used")] {
        let lora = Lora {
            adapter: AdapterRef::Name(name.into()),
            scale: 1.0,
        };
        let mut asked = ask(id, &[]);
        asked.lora.push(lora);
        let answer = engine.ask(asked);
        assert_eq!(answer.failure().kind, FailureKind::ModelInvalid);
        assert!(
            answer.failure().message.contains(why),
            "{}",
            answer.failure()
        );
    }
    let unknown = engine.ask(ask(3, &[("none", 1.0)]));
    assert_eq!(unknown.failure().kind, FailureKind::InvalidArgs);
    assert_ne!(
        text(&engine.ask(ask(4, SETS[0]))),
        text(&engine.ask(ask(5, SETS[1])))
    );
}

/// The tokens of an answer.
fn tokens(engine: &mut Engine, asked: GenerateRequest) -> Vec<i32> {
    engine.send(&Command::Generate(asked));
    let mut tokens = Vec::new();
    loop {
        match engine.next() {
            Event::Token { tokens: more, .. } => tokens.extend(more),
            Event::Finished { .. } => return tokens,
            Event::Failed { failure, .. } => panic!("{failure}"),
            _ => {}
        }
    }
}

#[test]
fn another_engine_continues_with_the_same_adapters() {
    let wanted = wanted("resume");
    let whole = tokens(&mut start(&wanted), ask(1, SETS[1]));
    assert_eq!(whole.len(), 24);
    let resumed = GenerateRequest {
        resume: whole[..10].to_vec(),
        ..ask(1, SETS[1])
    };
    assert_eq!(tokens(&mut start(&wanted), resumed), whole[10..]);
}
