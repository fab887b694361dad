//! Floor 2: models that can be had (`config/models.toml`), and what each would take,
//! known before it is downloaded. Pure.

use serde::Deserialize;

use crate::gguf::{ElementType, Header, Place, Shape, Weights, takes_more_bits};

/// The catalogue as it is compiled in.
const TEXT: &str = include_str!("../config/models.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    model: Vec<Entry>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What to call it.
    pub name: String,
    /// What `hearthctl pull` takes.
    pub source: String,
    /// The model's licence.
    pub licence: String,
    /// For people.
    pub good_for: String,
    /// The smallest board that it is for: its memory in GiB.
    pub board_gib: u32,
    /// How its weights are stored.
    pub quantization: Quantization,
    /// `general.architecture`.
    pub architecture: String,
    /// Tokens that it was trained for.
    pub context: u32,
    layers: u32,
    width: u32,
    feed_forward: u32,
    heads: u32,
    kv_heads: u32,
    head_width: u32,
    #[serde(default)]
    sliding_window: u32,
    vocabulary: u32,
    /// Whether the embeddings serve as the last matrix, too.
    tied: bool,
}

/// The types of llama.cpp's mixtures that the catalogue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(non_camel_case_types, reason = "llama.cpp's names")]
pub enum Quantization {
    /// Everything in signed bytes.
    Q8_0,
    /// Four bits, and six where the loss is felt most.
    Q4_K_M,
}

/// A matrix of a model: where it is, columns, rows, and whether more bits are spent on it.
type Matrix = (Place, u64, u64, bool);

/// The models, smallest first.
///
/// # Errors
/// That of the file, which the tests rule out.
pub fn catalogue() -> Result<Vec<Entry>, toml::de::Error> {
    toml::from_str::<Catalogue>(TEXT).map(|catalogue| catalogue.model)
}

impl Entry {
    /// The header that its file has, as far as memory depends on it.
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
                kv_heads: vec![self.kv_heads],
                key_length: self.head_width,
                value_length: self.head_width,
                vocabulary: self.vocabulary,
                // About as many as tokens where there are merges at all.
                merges: self.vocabulary,
                sliding_window: self.sliding_window,
                ..Shape::default()
            },
            ..Header::default()
        };
        for (place, columns, rows, matters) in self.matrices() {
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
        header
    }

    /// Bytes of its file, approximately: the matrices, and what the vocabulary takes.
    pub fn file_bytes(&self) -> u64 {
        // Tokens with their scores and types, and merges: 40 bytes each in real files.
        const TOKEN: u64 = 40;
        self.header().weight_bytes() + u64::from(self.vocabulary) * TOKEN
    }

    fn matrices(&self) -> Vec<Matrix> {
        let [width, feed_forward, vocabulary] =
            [self.width, self.feed_forward, self.vocabulary].map(u64::from);
        let head = u64::from(self.head_width);
        let all_heads = u64::from(self.heads) * head;
        let kv = u64::from(self.kv_heads) * head;
        let mut all = vec![(Place::Embedding, width, vocabulary, self.tied)];
        if !self.tied {
            all.push((Place::Output, width, vocabulary, true));
        }
        for block in 0..self.layers {
            let matters = takes_more_bits(block, self.layers);
            all.extend([
                // Queries, keys, values and the way out.
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
    /// llama.cpp's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q4_K_M => "Q4_K_M",
        }
    }

    /// How a matrix with rows of so many elements is stored
    /// (`llama_tensor_get_type` in llama-quant.cpp).
    fn of(self, columns: u64, matters: bool) -> ElementType {
        // Rows that are no multiple of 256 cannot have the K types.
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
    use super::*;
    use crate::fit::{Budget, CONTEXT_SMALL, Repack, Settings, fit};
    use crate::units::Bytes;

    /// What a system without a desktop leaves: 400 MiB are the kernel's, the firmware's and
    /// the system's, and as much as [`crate::fit::budget`] reserves stays free.
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
            let fitted = fit(&entry.header(), &wanted, board(entry.board_gib));
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

    #[test]
    fn parameters_are_those_the_makers_name() {
        // Millions, from the model cards; norms and biases are not counted here.
        for (name, millions) in [
            ("smollm2-135m", 135),
            ("smollm2-360m", 362),
            ("qwen2.5-0.5b", 494),
            ("qwen3-0.6b", 596),
            ("tinyllama-1.1b", 1100),
            ("gemma-3-1b", 1000),
            ("llama-3.2-1b", 1236),
            ("qwen2.5-1.5b", 1544),
            ("qwen3-1.7b", 1721),
            ("llama-3.2-3b", 3213),
            ("qwen3-4b", 4022),
            ("phi-4-mini", 3836),
        ] {
            let all = catalogue().unwrap();
            let entry = all.iter().find(|e| e.name == name).unwrap();
            let is = entry.header().parameters / 1_000_000;
            assert!(is.abs_diff(millions) * 100 <= millions, "{name}: {is} M");
        }
    }

    #[test]
    fn sizes_are_those_of_the_published_files() {
        // Bytes, as Hugging Face lists the files that `source` names. Phi's is 2 % larger
        // than said: llama.cpp gives its joint matrix for Q, K and V more bits.
        for (name, bytes) in [
            ("qwen3-0.6b", 396_705_472_u64),
            ("gemma-3-1b", 806_058_240),
            ("qwen3-1.7b", 1_107_409_472),
            ("qwen3-4b", 2_497_280_256),
            ("phi-4-mini", 2_491_874_272),
        ] {
            let all = catalogue().unwrap();
            let entry = all.iter().find(|e| e.name == name).unwrap();
            let is = entry.file_bytes();
            assert!(is.abs_diff(bytes) * 100 <= 3 * bytes, "{name}: {is}");
        }
    }
}
