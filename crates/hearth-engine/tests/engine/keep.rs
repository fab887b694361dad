//! The disk cache, with random weights: prompts outlive the engine, and damage costs only
//! time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hearth_proto::{Command, DiskCache, GenerateRequest, KvType, LoadRequest, Message, Prompt};

use crate::harness::{Answer, Engine, load, random_model, request, tiny_model};

fn wanted(folder: &Path) -> LoadRequest {
    LoadRequest {
        cache: Some(DiskCache {
            folder: folder.to_owned(),
            max_bytes: 100 << 20,
            daily_write_bytes: 100 << 20,
            min_tokens: 16,
        }),
        ..load(tiny_model())
    }
}

fn engine(wanted: &LoadRequest) -> Engine {
    let mut engine = Engine::start(&[]);
    engine.load(wanted).unwrap();
    engine
}

/// A question under a long system prompt.
fn ask(engine: &mut Engine, id: u64, question: &str) -> Answer {
    let system = Message {
        role: "system".into(),
        ..Message::user("You are the voice of a house. ".repeat(8))
    };
    let messages = vec![system, Message::user(question)];
    let tools = Vec::new();
    engine.ask(GenerateRequest {
        max_tokens: Some(12),
        uid: Some(1000),
        ..request(id, Prompt::Chat { messages, tools })
    })
}

/// Ends the engine as an unload does.
fn shut_down(mut engine: Engine) {
    engine.send(&Command::Shutdown);
    assert_eq!(engine.wait(Duration::from_secs(30)).code(), Some(0));
}

fn kept(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap();
    files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "kv"))
        .collect()
}

#[test]
fn a_system_prompt_outlives_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let cold: Vec<String> = {
        let mut engine = Engine::with_model(tiny_model());
        ["Light?", "Warm?"]
            .map(|q| ask(&mut engine, 1, q).text)
            .into()
    };
    let mut first = engine(&wanted(dir.path()));
    let answer = ask(&mut first, 1, "Light?");
    assert_eq!((answer.cached_tokens, &answer.text), (0, &cold[0]));
    shut_down(first);
    assert_eq!(kept(dir.path()).len(), 1);

    let mut second = engine(&wanted(dir.path()));
    let answer = ask(&mut second, 1, "Warm?");
    assert!(answer.cached_tokens > 200, "{}", answer.cached_tokens);
    assert!(answer.cached_tokens < answer.prompt_tokens);
    assert_eq!(answer.text, cold[1]);
    // It is already on disk: nothing is written again.
    let written = fs::metadata(&kept(dir.path())[0])
        .unwrap()
        .modified()
        .unwrap();
    shut_down(second);
    assert_eq!(kept(dir.path()).len(), 1);
    assert_eq!(
        fs::metadata(&kept(dir.path())[0])
            .unwrap()
            .modified()
            .unwrap(),
        written
    );
}

#[test]
fn it_is_written_when_nothing_else_is_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = engine(&wanted(dir.path()));
    ask(&mut first, 1, "Light?");
    let began = Instant::now();
    while kept(dir.path()).is_empty() {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "nothing was written"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // A crash after that loses nothing.
    drop(first);
    let mut second = engine(&wanted(dir.path()));
    assert!(ask(&mut second, 1, "Warm?").cached_tokens > 200);
}

#[test]
fn damage_costs_time_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = engine(&wanted(dir.path()));
    let text = ask(&mut first, 1, "Light?").text;
    shut_down(first);
    let path = kept(dir.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let damages = [
        ("empty", Vec::new()),
        ("cut in the header", whole[..40].to_vec()),
        ("cut in the payload", whole[..whole.len() / 2].to_vec()),
        ("a bit of the payload", flipped(whole.len() - 100)),
        ("a bit of the tokens", flipped(100)),
        ("another version", flipped(8)),
        ("text", b"something else".to_vec()),
    ];
    for (what, bytes) in damages {
        fs::write(&path, &bytes).unwrap();
        let mut engine = engine(&wanted(dir.path()));
        let answer = ask(&mut engine, 1, "Light?");
        assert_eq!((answer.cached_tokens, &answer.text), (0, &text), "{what}");
        shut_down(engine);
        // It was deleted, and written again.
        assert_eq!(kept(dir.path()).len(), 1, "{what}");
        assert_eq!(
            fs::read(&kept(dir.path())[0]).unwrap().len(),
            whole.len(),
            "{what}"
        );
    }
}

#[test]
fn another_model_or_other_settings_do_not_use_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = engine(&wanted(dir.path()));
    ask(&mut first, 1, "Light?");
    shut_down(first);
    let other = random_model("other", "2,128,256,4,2,608", "f16");
    let mut second = engine(&LoadRequest {
        path: other.clone(),
        ..wanted(dir.path())
    });
    assert_eq!(ask(&mut second, 1, "Light?").cached_tokens, 0);
    shut_down(second);
    fs::remove_file(other).unwrap();
    assert_eq!(kept(dir.path()).len(), 2);
    let mut third = engine(&LoadRequest {
        kv_type: KvType::Q8_0,
        ..wanted(dir.path())
    });
    assert_eq!(ask(&mut third, 1, "Light?").cached_tokens, 0);
    // A copy of the model uses the same cached prompts.
    let copy = dir.path().join("copy.gguf");
    fs::copy(tiny_model(), &copy).unwrap();
    shut_down(third);
    let mut fourth = engine(&LoadRequest {
        path: copy,
        kv_type: KvType::Q8_0,
        ..wanted(dir.path())
    });
    assert!(ask(&mut fourth, 1, "Light?").cached_tokens > 200);
}

#[test]
fn prompts_that_begin_alike_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let text = |n: u32| Prompt::Text(format!("{} number {n}", "A common beginning. ".repeat(4)));
    let mut first = engine(&wanted(dir.path()));
    for n in 0..2 {
        let request = request(u64::from(n), text(n));
        first.ask(GenerateRequest {
            max_tokens: Some(2),
            ..request
        });
    }
    shut_down(first);
    let mut second = engine(&wanted(dir.path()));
    let answer = second.ask(GenerateRequest {
        max_tokens: Some(2),
        ..request(9, text(7))
    });
    assert!(answer.cached_tokens > 60, "{}", answer.cached_tokens);
}

#[test]
fn without_a_folder_it_works_all_the_same() {
    let mut engine = engine(&wanted(Path::new("/proc/no/such/folder")));
    assert_eq!(ask(&mut engine, 1, "Light?").tokens, 12);
    shut_down(engine);
}
