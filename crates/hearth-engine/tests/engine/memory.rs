//! The memory estimate compared with what the engine really takes, and the engine's own
//! limit.
//!
//! The estimate is compared with the resident size after answers that filled at least one
//! whole micro-batch in every slot, plus the part of the KV cache that is not used yet:
//! the engine releases that part, and it is the only memory of the process with huge
//! pages disabled.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use hearth_gguf::fit::{Estimate, Repack, Settings, estimate, memory_max};
use hearth_gguf::{Header, read_header};
use hearth_proto::units::Bytes;
use hearth_proto::{
    Command, Constraint, EngineShape, Event, FailureKind, GenerateRequest, KvType, LoadRequest,
    Prompt, RequestId,
};

use crate::harness::{Engine, load, random_model, request};

/// How far the estimate may be off, in per cent.
const TOLERANCE: i64 = 10;

/// Tokens of a prompt: more than a micro-batch.
const PROMPT: usize = 200;

struct Case {
    shape: &'static str,
    element: &'static str,
    context: u32,
    kept: u32,
    kv_type: KvType,
    slots: u32,
    constraints: bool,
    embeddings: bool,
}

const PLAIN: Case = Case {
    shape: "10,1024,2816,16,4,32000",
    element: "q8_0",
    context: 2048,
    kept: 0,
    kv_type: KvType::F16,
    slots: 1,
    constraints: false,
    embeddings: false,
};

const CASES: [Case; 9] = [
    PLAIN,
    Case {
        context: 16_384,
        kv_type: KvType::Q8_0,
        slots: 4,
        ..PLAIN
    },
    Case {
        slots: 2,
        embeddings: true,
        ..PLAIN
    },
    // Repacked weights, embeddings that are also the last matrix.
    Case {
        shape: "8,1024,2816,16,4,32000",
        element: "q4_0",
        context: 8192,
        slots: 2,
        ..PLAIN
    },
    // A large vocabulary, and the tables of constrained answers.
    Case {
        shape: "4,512,1024,8,8,151936",
        element: "q4_0",
        context: 4096,
        slots: 4,
        constraints: true,
        ..PLAIN
    },
    Case {
        shape: "4,512,1024,8,8,151936",
        element: "q8_0",
        context: 4096,
        ..PLAIN
    },
    // Wide feed-forward, room for cached prefixes.
    Case {
        shape: "6,512,4096,8,2,8000",
        element: "f16",
        context: 4096,
        kept: 16_384,
        ..PLAIN
    },
    // Deep and narrow.
    Case {
        shape: "24,896,1024,14,2,8000",
        element: "q4_0",
        context: 16_384,
        kv_type: KvType::Q8_0,
        ..PLAIN
    },
    Case {
        shape: "3,2048,4096,32,8,8000",
        element: "f32",
        context: 4096,
        slots: 2,
        ..PLAIN
    },
];

impl Case {
    fn settings(&self) -> Settings {
        Settings {
            context: self.context,
            kept: self.kept,
            kv_type: self.kv_type,
            engine: &EngineShape::DEFAULT,
            slots: self.slots,
            threads: 2,
            repack: Repack::of_this_cpu(),
            constraints: self.constraints,
            embeddings: self.embeddings,
        }
    }

    fn load(&self, path: &Path, header: &Header) -> LoadRequest {
        LoadRequest {
            context_size: self.context,
            kept_tokens: self.kept,
            kv_type: self.kv_type,
            slots: self.slots,
            memory_max: Some(memory_max(header, &self.settings()).0),
            ..load(path)
        }
    }

    /// The engine's resident size, plus released memory, after it has done everything in
    /// the case.
    fn resident(&self, path: &Path, header: &Header) -> u64 {
        let mut engine = Engine::start(&[]);
        engine.load(&self.load(path, header)).unwrap();
        let ids: Vec<u64> = (1..=u64::from(self.slots)).collect();
        for id in &ids {
            let text = format!("{id}{}", "a".repeat(PROMPT));
            let mut generate = GenerateRequest {
                max_tokens: Some(8),
                ..request(*id, Prompt::Text(text))
            };
            generate.sampling.temperature = Some(0.7);
            generate.constraint = self.constraints.then_some(Constraint::JsonObject);
            engine.send(&Command::Generate(generate));
        }
        for answer in engine.collect_all(&ids) {
            answer.end.unwrap().unwrap();
        }
        if self.embeddings {
            let text = "a".repeat(PROMPT);
            engine.send(&Command::Embed {
                id: RequestId(99),
                input: text.into(),
                truncate: false,
            });
            let made = engine.until(|e| matches!(e, Event::Embedded { .. } | Event::Failed { .. }));
            assert!(matches!(made, Event::Embedded { .. }), "{made:?}");
        }
        let pid = engine.child.id();
        let unused = unused(pid);
        assert!(unused > 0, "nothing was given back");
        resident(pid) + unused
    }
}

/// Memory with huge pages disabled (`nh`) that is not resident (proc(5), smaps).
fn unused(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut bytes, mut size, mut rss) = (0, 0, 0);
    for line in text.lines() {
        let kib = || line.split_ascii_whitespace().nth(1).unwrap().parse().ok();
        match line.split_once(':').map(|(key, _)| key) {
            Some("Size") => size = kib().unwrap_or(0_u64) * 1024,
            Some("Rss") => rss = kib().unwrap_or(0_u64) * 1024,
            Some("VmFlags") if line.split(' ').any(|flag| flag == "nh") => bytes += size - rss,
            _ => {}
        }
    }
    bytes
}

fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    let kib = line.trim().strip_suffix("kB").unwrap().trim();
    kib.parse::<u64>().unwrap() * 1024
}

fn header(path: &Path) -> Header {
    read_header(&mut BufReader::new(File::open(path).unwrap())).unwrap()
}

#[test]
fn the_estimate_is_what_the_engine_takes() {
    let mut wrong = Vec::new();
    for (n, case) in CASES.iter().enumerate() {
        let path = random_model(&format!("memory{n}"), case.shape, case.element);
        let header = header(&path);
        let e: Estimate = estimate(&header, &case.settings());
        let resident = case.resident(&path, &header);
        std::fs::remove_file(&path).unwrap();
        // Pages that the kernel may reclaim stay resident while memory is not short.
        let estimated = e.total.0 + e.reclaimable.0;
        let off = (estimated.cast_signed() - resident.cast_signed()) * 100;
        let off = off / resident.cast_signed();
        let line = format!(
            "{} {} context {} kept {} keys {:?} slots {}: weights {}, kv {}, compute {}, \
             other {}, pages {}: {} estimated, {} resident, {off:+} %",
            case.shape,
            case.element,
            case.context,
            case.kept,
            case.kv_type,
            case.slots,
            e.weights,
            e.kv,
            e.compute,
            e.other,
            e.reclaimable,
            Bytes(estimated),
            Bytes(resident),
        );
        println!("{line}");
        if off.abs() > TOLERANCE {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn more_memory_than_it_may_have_is_a_failure_with_a_name() {
    let path = random_model("limited", "4,512,1024,8,8,32000", "q4_0");
    // Room for nothing, for part of the weights, for weights without keys and values.
    for mib in [4, 16, 40] {
        let mut wanted = load(&path);
        wanted.context_size = 16_384;
        wanted.memory_max = Some(mib << 20);
        let mut engine = Engine::start(&[]);
        let failure = engine.load(&wanted).unwrap_err();
        assert_eq!(
            failure.kind,
            FailureKind::OutOfMemory,
            "{mib} MiB: {failure}"
        );
        let status = engine.wait(std::time::Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "{mib} MiB");
    }
    std::fs::remove_file(path).unwrap();
}
