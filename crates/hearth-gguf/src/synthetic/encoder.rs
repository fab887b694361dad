//! Small embedding models and rerankers with random weights, for tests.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::{spread, token_text, uniform};
use crate::write::{self, ElementType, Tensor, Value};

const WIDTH: u32 = 64;
const HEADS: u32 = 4;
const FEED_FORWARD: u32 = 128;
const VOCAB: u32 = 300;
/// The context, in tokens.
const CONTEXT: u32 = 2048;
/// Tokens that a windowed block of [`Encoder::Gemma`] sees.
const WINDOW: u32 = 64;
/// Tokens that take the place of others of the vocabulary, by name of their key.
const FILL_IN: [(&str, u32); 5] = [
    ("fim_pre", 260),
    ("fim_suf", 261),
    ("fim_mid", 262),
    ("fim_rep", 263),
    ("fim_sep", 264),
];
/// Relative position buckets of a T5.
const BUCKETS: u32 = 32;

/// Embedding models, by the architecture that llama.cpp runs them with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// BERT, with the first token's vector (bge).
    Bert,
    /// Nomic's BERT: rotated positions, a gate, the mean.
    NomicBert,
    /// embedding-gemma: attention is not causal, though no key of its file says so; sliding
    /// windows, the mean.
    Gemma,
    /// Qwen3-Embedding: a causal model, with the last token's vector.
    Qwen3,
    /// A model without a pooling type.
    Plain,
    /// The same, with tokens for filling in text.
    FillIn,
    /// BERT with a classifier of one label (bge-reranker).
    BertReranker,
    /// A causal model with a classifier of two labels and a template for pairs
    /// (Qwen3-Reranker).
    Qwen3Reranker,
    /// T5: an encoder and a decoder.
    T5,
    /// The encoder of a T5 alone.
    T5Encoder,
}

impl Encoder {
    /// `general.architecture`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Bert | Self::BertReranker => "bert",
            Self::NomicBert => "nomic-bert",
            Self::Gemma => "gemma-embedding",
            Self::Qwen3 | Self::Qwen3Reranker => "qwen3",
            Self::Plain | Self::FillIn => "llama",
            Self::T5 => "t5",
            Self::T5Encoder => "t5encoder",
        }
    }

    /// Every sixth block of gemma has full attention, and llama.cpp aborts if no block has it
    /// (`llm_graph_input_attn_no_cache`).
    fn layers(self) -> u32 {
        if self == Self::Gemma { 6 } else { 2 }
    }

    fn is_t5(self) -> bool {
        matches!(self, Self::T5 | Self::T5Encoder)
    }

    fn is_bert(self) -> bool {
        matches!(self, Self::Bert | Self::NomicBert | Self::BertReranker)
    }

    /// With positions as vectors and biases in every block.
    fn is_first_bert(self) -> bool {
        matches!(self, Self::Bert | Self::BertReranker)
    }

    /// `enum llama_pooling_type`.
    fn pooling(self) -> Option<u32> {
        match self {
            Self::NomicBert | Self::Gemma => Some(1),
            Self::Bert => Some(2),
            Self::Qwen3 => Some(3),
            Self::BertReranker | Self::Qwen3Reranker => Some(4),
            Self::Plain | Self::FillIn | Self::T5 | Self::T5Encoder => None,
        }
    }
}

/// Writes such a model; the same arguments produce the same bytes.
///
/// # Errors
/// Those of the file.
pub fn make_encoder(path: &Path, encoder: Encoder, seed: u64) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let tensors = tensors(encoder);
    write::write_header(&mut out, &header(encoder), &tensors)?;
    let mut random = fastrand::Rng::with_seed(seed);
    for tensor in &tensors {
        let count: u64 = tensor.shape.iter().product();
        let values: Vec<f32> = match tensor.shape.as_slice() {
            // Biases differ; the weights of norms are near one.
            [_] if tensor.name.ends_with("bias") => {
                (0..count).map(|_| uniform(&mut random) * 0.1).collect()
            }
            [_] => (0..count)
                .map(|_| 1.0 + uniform(&mut random) * 0.1)
                .collect(),
            [inputs, ..] => {
                let spread = spread(*inputs);
                (0..count).map(|_| uniform(&mut random) * spread).collect()
            }
            [] => Vec::new(),
        };
        let mut bytes = Vec::new();
        tensor.element.encode(&values, &mut bytes);
        out.write_all(&bytes)?;
        write::pad(&mut out, tensor.element.bytes(count))?;
    }
    out.flush()
}

// A table: a row for each tensor of the architecture.
fn tensors(encoder: Encoder) -> Vec<Tensor> {
    let (width, ff, vocab) = (u64::from(WIDTH), u64::from(FEED_FORWARD), u64::from(VOCAB));
    let head = width / u64::from(HEADS);
    let tensor = |name: String, shape: &[u64]| Tensor {
        name,
        shape: shape.to_vec(),
        element: ElementType::F32,
    };
    let mut all = vec![tensor("token_embd.weight".into(), &[width, vocab])];
    if encoder.is_t5() {
        all.extend(t5(encoder, "enc", false).map(|(name, shape)| tensor(name, &shape)));
        if encoder == Encoder::T5 {
            all.extend(t5(encoder, "dec", true).map(|(name, shape)| tensor(name, &shape)));
        }
        return all;
    }
    let mut add = |name: &str, shape: &[u64]| all.push(tensor(name.to_owned(), shape));
    if encoder.is_bert() {
        add("token_types.weight", &[width, 2]);
        add("token_embd_norm.weight", &[width]);
        add("token_embd_norm.bias", &[width]);
        if encoder.is_first_bert() {
            add("position_embd.weight", &[width, CONTEXT.into()]);
        }
    } else {
        add("output_norm.weight", &[width]);
    }
    match encoder {
        Encoder::BertReranker => {
            add("cls.weight", &[width, width]);
            add("cls.bias", &[width]);
            add("cls.output.weight", &[width, 1]);
            add("cls.output.bias", &[1]);
        }
        Encoder::Qwen3Reranker => add("cls.output.weight", &[width, 2]),
        _ => {}
    }
    for n in 0..encoder.layers() {
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            add(&format!("blk.{n}.{part}.weight"), &[width, width]);
            if encoder.is_first_bert() {
                add(&format!("blk.{n}.{part}.bias"), &[width]);
            }
        }
        add(&format!("blk.{n}.ffn_up.weight"), &[width, ff]);
        add(&format!("blk.{n}.ffn_down.weight"), &[ff, width]);
        if !encoder.is_first_bert() {
            add(&format!("blk.{n}.ffn_gate.weight"), &[width, ff]);
        }
        let (wide, narrow) = norms(encoder);
        for norm in wide {
            add(&format!("blk.{n}.{norm}.weight"), &[width]);
            if encoder.is_bert() {
                add(&format!("blk.{n}.{norm}.bias"), &[width]);
            }
        }
        for norm in narrow {
            add(&format!("blk.{n}.{norm}.weight"), &[head]);
        }
    }
    all
}

/// The norms of a block: as wide as it, and as wide as a head.
fn norms(encoder: Encoder) -> (&'static [&'static str], &'static [&'static str]) {
    match encoder {
        Encoder::Bert | Encoder::NomicBert | Encoder::BertReranker => {
            (&["attn_output_norm", "layer_output_norm"], &[])
        }
        Encoder::Gemma => (
            &[
                "attn_norm",
                "post_attention_norm",
                "ffn_norm",
                "post_ffw_norm",
            ],
            &["attn_q_norm", "attn_k_norm"],
        ),
        Encoder::Qwen3 | Encoder::Qwen3Reranker => {
            (&["attn_norm", "ffn_norm"], &["attn_q_norm", "attn_k_norm"])
        }
        _ => (&["attn_norm", "ffn_norm"], &[]),
    }
}

/// One half of a T5.
fn t5(encoder: Encoder, half: &str, crosses: bool) -> impl Iterator<Item = (String, Vec<u64>)> {
    let (width, ff) = (u64::from(WIDTH), u64::from(FEED_FORWARD));
    let mut parts = vec![
        ("attn_norm", vec![width]),
        ("attn_rel_b", vec![HEADS.into(), BUCKETS.into()]),
        ("ffn_norm", vec![width]),
        ("ffn_up", vec![width, ff]),
        ("ffn_down", vec![ff, width]),
    ];
    let square = vec![width, width];
    parts.extend(["attn_q", "attn_k", "attn_v", "attn_o"].map(|part| (part, square.clone())));
    if crosses {
        parts.push(("cross_attn_norm", vec![width]));
        let parts_of = [
            "cross_attn_q",
            "cross_attn_k",
            "cross_attn_v",
            "cross_attn_o",
        ];
        parts.extend(parts_of.map(|part| (part, square.clone())));
    }
    let norm = (format!("{half}.output_norm.weight"), vec![width]);
    let half = half.to_owned();
    let blocks = (0..encoder.layers()).flat_map(move |n| {
        let named = |(part, shape): &(&str, Vec<u64>)| {
            (format!("{half}.blk.{n}.{part}.weight"), shape.clone())
        };
        parts.iter().map(named).collect::<Vec<_>>()
    });
    std::iter::once(norm).chain(blocks)
}

fn header(encoder: Encoder) -> Vec<(String, Value)> {
    let architecture = encoder.architecture();
    let own = |key: &str, value: Value| (format!("{architecture}.{key}"), value);
    let all = |key: &str, value: Value| (key.to_owned(), value);
    let text = |s: &str| Value::Text(s.to_owned());
    let mut pairs = vec![
        all("general.architecture", text(architecture)),
        own("block_count", Value::U32(encoder.layers())),
        own("context_length", Value::U32(CONTEXT)),
        own("embedding_length", Value::U32(WIDTH)),
        own("feed_forward_length", Value::U32(FEED_FORWARD)),
        own("attention.head_count", Value::U32(HEADS)),
        own("attention.head_count_kv", Value::U32(HEADS)),
        own("rope.freq_base", Value::F32(10_000.0)),
    ];
    pairs.extend(tokenizer());
    if let Some(pooling) = encoder.pooling() {
        pairs.push(own("pooling_type", Value::U32(pooling)));
    }
    if encoder.is_bert() {
        pairs.push(own("attention.causal", Value::Bool(false)));
        pairs.push(own("attention.layer_norm_epsilon", Value::F32(1e-6)));
        pairs.push(all("tokenizer.ggml.token_type_count", Value::U32(2)));
    } else {
        pairs.push(own("attention.layer_norm_rms_epsilon", Value::F32(1e-6)));
    }
    if encoder.is_t5() {
        let key = "attention.relative_buckets_count";
        pairs.push(own(key, Value::U32(BUCKETS)));
        pairs.push(own("decoder_start_token_id", Value::U32(0)));
    }
    if encoder == Encoder::Gemma {
        pairs.push(own("attention.sliding_window", Value::U32(WINDOW)));
    }
    if encoder == Encoder::FillIn {
        let keys = FILL_IN.map(|(name, id)| (format!("tokenizer.ggml.{name}_token_id"), id));
        pairs.extend(keys.map(|(key, id)| (key, Value::U32(id))));
    }
    pairs.extend(pairs_of_texts(encoder));
    if encoder == Encoder::Qwen3 {
        // As in the file of the base model.
        pairs.push(all(
            "tokenizer.chat_template",
            text("{% for m in messages %}{{ m.content }}{% endfor %}"),
        ));
    }
    pairs
}

/// How a reranker expects a query and a document.
fn pairs_of_texts(encoder: Encoder) -> Vec<(String, Value)> {
    let all = |key: &str, value: Value| (format!("tokenizer.{key}"), value);
    match encoder {
        Encoder::BertReranker => vec![
            all("ggml.seperator_token_id", Value::U32(257)),
            all("ggml.add_sep_token", Value::Bool(true)),
            all("ggml.add_eos_token", Value::Bool(true)),
        ],
        Encoder::Qwen3Reranker => vec![
            all(
                "chat_template.rerank",
                Value::Text("<|mark|>Query: {query}\nDocument: {document}<|mark|>".into()),
            ),
            (
                "qwen3.classifier.output_labels".into(),
                Value::Texts(vec!["yes".into(), "no".into()]),
            ),
        ],
        _ => Vec::new(),
    }
}

/// Bytes as tokens, and a few control tokens.
fn tokenizer() -> impl Iterator<Item = (String, Value)> {
    let text = |s: &str| Value::Text(s.to_owned());
    // 1 normal, 3 control: those after the bytes.
    let kind = |n| if (256..259).contains(&n) { 3 } else { 1 };
    // The turn tokens are left out: these models have none.
    let token = |n| match n {
        257 => "<|mark|>".to_owned(),
        n => token_text(n),
    };
    let pairs = [
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        (
            "tokenizer.ggml.tokens",
            Value::Texts((0..VOCAB).map(token).collect()),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Numbers((0..VOCAB).map(kind).collect()),
        ),
        ("tokenizer.ggml.merges", Value::Texts(Vec::new())),
        ("tokenizer.ggml.bos_token_id", Value::U32(256)),
        ("tokenizer.ggml.eos_token_id", Value::U32(258)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
    ];
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
}
