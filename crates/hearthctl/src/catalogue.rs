//! Models that can be downloaded (`config/models.toml`), and the memory that each needs,
//! known before the download. No I/O.

use hearth_gguf::{ElementType, Header, Place, Recurrent, Shape, Weights, takes_more_bits};
use serde::Deserialize;

const TEXT: &str = include_str!("../../../config/models.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    model: Vec<Entry>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name of the model.
    pub name: String,
    /// Argument of `hearthctl pull`.
    pub source: String,
    /// The model's licence.
    pub licence: String,
    /// What it is suited for.
    pub good_for: String,
    /// The smallest board that it is meant for: memory in GiB.
    pub board_gib: u32,
    /// What it returns.
    #[serde(default)]
    pub kind: Kind,
    /// Type of its weights.
    pub quantization: Quantization,
    /// `general.architecture`.
    pub architecture: String,
    /// Training context in tokens.
    pub context: u32,
    layers: u32,
    width: u32,
    feed_forward: u32,
    heads: u32,
    kv_heads: u32,
    head_width: u32,
    #[serde(default)]
    sliding_window: u32,
    /// Number of last layers that use the keys of other layers.
    #[serde(default)]
    shared_kv_layers: u32,
    /// Number of layers with keys and values; all if omitted.
    attention_layers: Option<u32>,
    #[serde(default)]
    ssm_conv_kernel: u32,
    #[serde(default)]
    ssm_inner_size: u32,
    #[serde(default)]
    ssm_state_size: u32,
    #[serde(default)]
    ssm_group_count: u32,
    #[serde(default)]
    short_conv: u32,
    /// Size of the file if the matrices are not those of a plain transformer.
    file_bytes: Option<u64>,
    vocabulary: u32,
    /// Whether the embeddings also serve as the output matrix.
    tied: bool,
}

/// What a model returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Text.
    #[default]
    Chat,
    /// The embedding vector of a text.
    Embedding,
    /// How relevant a text is to a question.
    Reranker,
}

/// The llama.cpp file types that occur in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(non_camel_case_types, reason = "llama.cpp's names")]
pub enum Quantization {
    /// All matrices in 8 bits.
    Q8_0,
    /// Four bits, and six where the loss is largest.
    Q4_K_M,
}

/// A matrix of a model: where it is, columns, rows, and whether more bits are spent on it.
type Matrix = (Place, u64, u64, bool);

/// The models, smallest first.
///
/// # Errors
/// The parse error of the file, which the tests rule out.
pub fn catalogue() -> Result<Vec<Entry>, toml::de::Error> {
    toml::from_str::<Catalogue>(TEXT).map(|catalogue| catalogue.model)
}

impl Entry {
    /// The header of its file, as far as the memory estimate depends on it.
    pub fn header(&self) -> Header {
        let mut header = Header {
            architecture: self.architecture.clone(),
            quantization: self.quantization.as_str().to_owned(),
            context_train: self.context,
            shape: Shape {
                blocks: self.layers,
                width: self.width,
                feed_forward: self.feed_forward,
                heads: self.heads,
                kv_heads: self.kv_heads(),
                key_length: self.head_width,
                value_length: self.head_width,
                vocabulary: self.vocabulary,
                // About as many as tokens, if there are merges at all.
                merges: self.vocabulary,
                sliding_window: self.sliding_window,
                shared_kv_blocks: self.shared_kv_layers,
                recurrent: Recurrent {
                    conv_kernel: self.ssm_conv_kernel,
                    inner_size: self.ssm_inner_size,
                    state_size: self.ssm_state_size,
                    group_count: self.ssm_group_count,
                    short_conv: self.short_conv,
                    ..Recurrent::default()
                },
                ..Shape::default()
            },
            ..Header::default()
        };
        let matrices = match self.file_bytes {
            Some(_) => self.vocabulary_matrices(),
            None => self.matrices(),
        };
        for (place, columns, rows, matters) in matrices {
            let element = self.quantization.of(columns, matters);
            let elements = columns.saturating_mul(rows);
            let bytes = element.bytes(elements);
            header.parameters += elements;
            let in_eights = if rows.is_multiple_of(8) { bytes } else { 0 };
            header.weights.push(Weights {
                place,
                element,
                bytes,
                in_eights,
            });
        }
        if let Some(file) = self.file_bytes {
            // Everything outside the vocabulary counts as layers, whatever it is.
            let known = header.weight_bytes() + self.vocabulary_bytes();
            let bytes = file.saturating_sub(known);
            header.weights.push(Weights {
                place: Place::Block,
                element: self.quantization.of(256, false),
                bytes,
                in_eights: bytes,
            });
        }
        header
    }

    /// Approximate size of its file in bytes: the matrices and the vocabulary.
    pub fn file_bytes(&self) -> u64 {
        self.header().weight_bytes() + self.vocabulary_bytes()
    }

    /// Tokens with their scores and types, and merges: 40 bytes each in real files.
    fn vocabulary_bytes(&self) -> u64 {
        u64::from(self.vocabulary) * 40
    }

    /// One number for all layers, or one for each if not all have attention. Which ones
    /// have it makes no difference to the memory.
    fn kv_heads(&self) -> Vec<u32> {
        match self.attention_layers {
            None => vec![self.kv_heads],
            Some(n) => (0..self.layers)
                .map(|layer| if layer < n { self.kv_heads } else { 0 })
                .collect(),
        }
    }

    fn vocabulary_matrices(&self) -> Vec<Matrix> {
        let [width, vocabulary] = [self.width, self.vocabulary].map(u64::from);
        let mut all = vec![(Place::Embedding, width, vocabulary, self.tied)];
        if !self.tied {
            all.push((Place::Output, width, vocabulary, true));
        }
        all
    }

    fn matrices(&self) -> Vec<Matrix> {
        let [width, feed_forward] = [self.width, self.feed_forward].map(u64::from);
        let head = u64::from(self.head_width);
        let all_heads = u64::from(self.heads) * head;
        let kv = u64::from(self.kv_heads) * head;
        let mut all = self.vocabulary_matrices();
        for block in 0..self.layers {
            let matters = takes_more_bits(block, self.layers);
            all.extend([
                // Query, key, value and output.
                (Place::Block, width, all_heads, false),
                (Place::Block, width, kv, false),
                (Place::Block, width, kv, matters),
                (Place::Block, all_heads, width, false),
                // Gate, up and down.
                (Place::Block, width, 2 * feed_forward, false),
                (Place::Block, feed_forward, width, matters),
            ]);
        }
        all
    }
}

impl Quantization {
    /// Name of the type in llama.cpp.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q4_K_M => "Q4_K_M",
        }
    }

    /// Type of a matrix with this many columns (`llama_tensor_get_type` in
    /// llama-quant.cpp).
    fn of(self, columns: u64, matters: bool) -> ElementType {
        // K types need rows of a multiple of 256 elements.
        match (self, matters, columns.is_multiple_of(256)) {
            (Self::Q8_0, _, _) | (Self::Q4_K_M, true, false) => ElementType::Q8_0,
            (Self::Q4_K_M, true, true) => ElementType::Q6_K,
            (Self::Q4_K_M, false, true) => ElementType::Q4_K,
            (Self::Q4_K_M, false, false) => ElementType::Q5_0,
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_gguf::fit::{self, Budget, CONTEXT_SMALL, Repack, Settings};
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
    fn each_fits_the_board_that_it_is_for() {
        let mut misfits = Vec::new();
        for entry in catalogue().unwrap() {
            let wanted = Settings {
                repack: Repack::DotProd,
                threads: 4,
                constraints: true,
                ..Settings::plain(CONTEXT_SMALL)
            };
            let fitted = fit::fit(&entry.header(), &wanted, board(entry.board_gib));
            if let Err(why) = fitted {
                misfits.push(format!("{}: {why}", entry.name));
            }
            assert!(matches!(entry.board_gib, 1 | 2 | 4 | 8), "{}", entry.name);
        }
        assert!(misfits.is_empty(), "{misfits:#?}");
    }

    #[test]
    fn every_board_has_a_choice_and_names_differ() {
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
    fn parameters_are_those_the_makers_name() {
        // Millions, from the model cards. Norms and biases are not counted here, nor the
        // layers of models with `file_bytes`.
        for (name, millions) in [
            ("smollm2-135m", 135),
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
            ("gemma-3-270m", 291_545_600_u64),
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
    fn a_published_size_is_kept_to_the_byte() {
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
        fit::estimate(&entry.header(), &settings).total.0
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
                Bytes(entry.file_bytes()).to_string(),
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
}
