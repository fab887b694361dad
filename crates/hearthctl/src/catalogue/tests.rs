use hearth_gguf::fit::{self, Budget, CONTEXT_SMALL, Repack, Settings};
use hearth_gguf::projector_memory;
use hearth_proto::KvType;
use hearth_proto::units::Bytes;

use super::*;

/// The memory available without a desktop: 400 MiB are used by the kernel, the
/// firmware and the system, and [`hearth_gguf::fit::budget`] reserves some.
fn board(gib: u32) -> Budget {
    let total = Bytes::mib(u64::from(gib) * 1024).0;
    Budget {
        free: Bytes(total - Bytes::mib(400).0),
        reserved: Bytes((total / 100 * 8).max(Bytes::mib(256).0)),
    }
}

#[test]
fn each_fits_its_board() {
    let mut misfits = Vec::new();
    for entry in catalogue().unwrap() {
        let wanted = Settings {
            repack: Repack::DotProd,
            threads: 4,
            constraints: true,
            ..Settings::plain(CONTEXT_SMALL)
        };
        let budget = board(entry.board_gib).without(projector(&entry));
        let fitted = fit::fit(&entry.header(), &wanted, budget);
        if let Err(why) = fitted {
            misfits.push(format!("{}: {why}", entry.name));
        }
        assert!(matches!(entry.board_gib, 1 | 2 | 4 | 8), "{}", entry.name);
    }
    assert!(misfits.is_empty(), "{misfits:#?}");
}

fn projector(entry: &Entry) -> Bytes {
    let header = entry.projector_header();
    header.as_ref().map_or(Bytes(0), projector_memory)
}

#[test]
fn every_board_has_a_model_and_names_differ() {
    let all = catalogue().unwrap();
    for gib in [1, 2, 4, 8] {
        assert!(all.iter().any(|e| e.board_gib == gib), "{gib} GiB");
    }
    let mut names: Vec<&str> = all.iter().map(|e| e.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len());
}

fn entry(name: &str) -> Entry {
    let mut all = catalogue().unwrap().into_iter();
    all.find(|e| e.name == name).unwrap()
}

#[test]
fn parameters_are_those_of_the_model_cards() {
    // Millions, from the model cards. Norms and biases are not counted here, nor the
    // layers of models with `file_bytes`.
    for (name, millions) in [
        ("smollm2-135m", 135),
        // Without the 93 M of its projector.
        ("smolvlm-256m", 163),
        ("gemma-3-270m", 268),
        ("qwen2.5-0.5b", 494),
        ("qwen3-0.6b", 596),
        ("llama-3.2-1b", 1236),
        ("qwen3-1.7b", 1721),
        ("smollm3-3b", 3075),
        ("llama-3.2-3b", 3213),
        ("qwen3-4b", 4022),
    ] {
        let is = entry(name).header().parameters / 1_000_000;
        assert!(is.abs_diff(millions) * 100 <= millions, "{name}: {is} M");
    }
}

#[test]
fn sizes_are_those_of_the_published_files() {
    // File sizes in bytes that Hugging Face lists for `source`.
    for (name, bytes) in [
        ("smolvlm-256m", 175_054_528_u64),
        ("gemma-3-270m", 291_545_600),
        ("granite-4.0-350m", 378_138_016),
        ("qwen3-0.6b", 396_705_472),
        ("qwen3-1.7b", 1_107_409_472),
        ("granite-4.0-1b", 1_023_645_440),
        ("smollm3-3b", 1_915_305_312),
        ("granite-4.0-micro", 2_099_502_528),
        ("ministral-3-3b", 2_146_497_824),
        ("qwen3-4b", 2_497_280_256),
        ("embeddinggemma-300m", 333_590_944),
        ("qwen3-reranker-0.6b", 639_153_184),
    ] {
        let is = entry(name).file_bytes();
        assert!(is.abs_diff(bytes) * 100 <= 3 * bytes, "{name}: {is}");
    }
}

#[test]
fn a_stated_size_is_exact() {
    for entry in catalogue().unwrap() {
        if let Some(bytes) = entry.file_bytes {
            assert_eq!(entry.file_bytes(), bytes, "{}", entry.name);
        }
    }
}

#[test]
fn hybrids_have_keys_in_few_layers_and_a_state_in_the_others() {
    // Bytes of a token's keys and values: the heads of six of the 24 layers, in 16
    // bits.
    let small = entry("qwen3.5-0.8b").header();
    assert_eq!(fit::cell_bytes(&small, KvType::F16), 6 * 2 * 256 * 2 * 2);
    // Short convolutions store two columns for each of ten layers.
    let lfm = entry("lfm2.5-350m").header();
    assert_eq!(fit::cell_bytes(&lfm, KvType::F16), 6 * 8 * 64 * 2 * 2);
    assert_eq!(lfm.shape.recurrent.short_conv, 3);
    // Four times the context costs less than a plain model of the same size.
    let more = |name: &str| memory(&entry(name), 16384) - memory(&entry(name), 4096);
    assert!(more("qwen3.5-0.8b") < more("qwen3-0.6b") / 4);
}

/// Memory on a Raspberry Pi 5, without room for cached prompts.
fn memory(entry: &Entry, context: u32) -> u64 {
    let settings = Settings {
        repack: Repack::DotProd,
        threads: 4,
        constraints: true,
        ..Settings::plain(context)
    };
    fit::estimate(&entry.header(), &settings).total.0 + projector(entry).0
}

/// The table in docs/models.md.
fn table() -> String {
    let mut out = String::from(
        "| Name | File | 4k | 8k | Board | Licence | Good for |\n|---|--:|--:|--:|--:|---|---|\n",
    );
    for entry in catalogue().unwrap() {
        // A model may be trained for a smaller context.
        let cell = |context: u32| {
            let fits = context <= entry.context;
            let total = fits.then(|| Bytes(memory(&entry, context)).to_string());
            total.unwrap_or_else(|| "-".to_owned())
        };
        let kind = match entry.kind {
            Kind::Chat => "",
            Kind::Embedding => "embeddings: ",
            Kind::Reranker => "reranker: ",
        };
        let row = [
            format!("`{}`", entry.name),
            Bytes(entry.total_bytes()).to_string(),
            cell(4096),
            cell(8192),
            format!("{} GB", entry.board_gib),
            entry.licence.clone(),
            format!("{kind}{}", entry.good_for),
        ];
        out += &["| ", &row.join(" | "), " |\n"].concat();
    }
    out
}

/// `HEARTH_WRITE=1` regenerates it.
#[test]
fn the_table_in_the_documentation_is_the_catalogues() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/models.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- catalogue -->\n").unwrap();
    let (is, after) = rest.split_once("<!-- /catalogue -->").unwrap();
    let table = table();
    if std::env::var_os("HEARTH_WRITE").is_some() {
        let text = format!("{before}<!-- catalogue -->\n{table}<!-- /catalogue -->{after}");
        std::fs::write(&path, text).unwrap();
        return;
    }
    assert_eq!(is, table, "HEARTH_WRITE=1 cargo test catalogue writes it");
}
