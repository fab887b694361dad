//! Tiny models of other architectures, for tests of how the engine handles their kinds of
//! memory. The keys and tensors are those that llama.cpp's loaders require
//! (src/models/*.cpp of llama-cpp-sys-2 0.1.161).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use super::{Encoder, Random, make_encoder, spread, vocabulary};
use crate::write::{self, ElementType, Tensor, Value};

/// Embedding width of all of them.
const WIDTH: u64 = 128;
const HEADS: u64 = 4;
const HEAD: u64 = WIDTH / HEADS;
const KV_HEADS: u64 = 2;
const KV: u64 = HEAD * KV_HEADS;
const FEED_FORWARD: u64 = 256;
const VOCABULARY: u64 = 600;
const CONTEXT: u32 = 8192;
/// Gated delta nets and Mamba 2: number of state heads, and their width.
const STATE_HEADS: u64 = 4;
const STATE: u64 = 32;
const CONV: u64 = 4;
const EXPERTS: u64 = 4;
/// Sliding window in tokens.
const WINDOW: u32 = 64;
/// Original training context, in tokens, of the model with two sets of rotation factors.
const ORIGINAL_CONTEXT: u32 = 1024;

/// An architecture for which a tiny model with random weights can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Short convolutions, and attention in every third block.
    Lfm2,
    /// Gated delta nets, and attention in every fourth block.
    Qwen35,
    /// Mamba 2, and attention in every third block.
    GraniteHybrid,
    /// Mamba: a state in every block.
    Mamba,
    /// Gemma 3: a sliding window in five of six blocks.
    Gemma3,
    /// Phi 3 with rotation factors for short and for long contexts.
    LongRope,
    /// `DeepSeek` 2: keys and values are kept compressed.
    Mla,
    /// Qwen 3 with experts.
    Moe,
    /// An encoder and a decoder.
    T5,
    /// An encoder for embeddings.
    Bert,
}

/// The names of [`Family`]s.
pub const FAMILIES: [(&str, Family); 10] = [
    ("lfm2", Family::Lfm2),
    ("qwen35", Family::Qwen35),
    ("granite-hybrid", Family::GraniteHybrid),
    ("mamba", Family::Mamba),
    ("gemma3", Family::Gemma3),
    ("long-rope", Family::LongRope),
    ("mla", Family::Mla),
    ("moe", Family::Moe),
    ("t5", Family::T5),
    ("bert", Family::Bert),
];

impl FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = FAMILIES.iter().find(|(name, _)| *name == text);
        found.map(|(_, family)| *family).ok_or_else(|| {
            let names = FAMILIES.map(|(name, _)| name).join(", ");
            format!("tiny models of random weights come in {names}")
        })
    }
}

/// The values of a tensor.
#[derive(Clone, Copy, Debug)]
enum Fill {
    /// Random, so that a unit input stays at unit variance.
    Random,
    /// All the same.
    Constant(f32),
}

/// The state decays slowly, so that a wrong one is visible many tokens later:
/// exp(-softplus(-5)) is 0.993 per token.
const SLOW: Fill = Fill::Constant(-5.0);
const ONE: Fill = Fill::Constant(1.0);
const MINUS_ONE: Fill = Fill::Constant(-1.0);
const ZERO: Fill = Fill::Constant(0.0);

/// Keys and tensors collected before they are written.
struct Recipe {
    arch: &'static str,
    values: Vec<(String, Value)>,
    tensors: Vec<(Tensor, Fill)>,
}

impl Recipe {
    fn new(arch: &'static str, blocks: u32) -> Self {
        let mut recipe = Self {
            arch,
            values: vec![
                ("general.architecture".into(), Value::Text(arch.into())),
                ("general.name".into(), Value::Text("random weights".into())),
                ("general.file_type".into(), Value::U32(0)),
            ],
            tensors: Vec::new(),
        };
        recipe.number("block_count", blocks);
        recipe.number("context_length", CONTEXT);
        recipe.number("embedding_length", as_u32(WIDTH));
        recipe.number("feed_forward_length", as_u32(FEED_FORWARD));
        recipe.number("attention.head_count", as_u32(HEADS));
        recipe.float("attention.layer_norm_rms_epsilon", 1e-6);
        recipe.number("vocab_size", as_u32(VOCABULARY));
        recipe.random("token_embd.weight", &[WIDTH, VOCABULARY]);
        recipe
    }

    fn set(&mut self, key: &str, value: Value) {
        self.values.push((format!("{}.{key}", self.arch), value));
    }

    fn number(&mut self, key: &str, value: u32) {
        self.set(key, Value::U32(value));
    }

    fn float(&mut self, key: &str, value: f32) {
        self.set(key, Value::F32(value));
    }

    fn add(&mut self, name: &str, shape: &[u64], fill: Fill) {
        let tensor = Tensor {
            name: name.into(),
            shape: shape.to_vec(),
            element: ElementType::F32,
        };
        self.tensors.push((tensor, fill));
    }

    fn random(&mut self, name: &str, shape: &[u64]) {
        self.add(name, shape, Fill::Random);
    }

    fn norm(&mut self, name: &str, width: u64) {
        self.add(name, &[width], ONE);
    }

    fn attention(&mut self, at: &str, query: u64) {
        self.random(&format!("{at}.attn_q.weight"), &[WIDTH, query]);
        self.random(&format!("{at}.attn_k.weight"), &[WIDTH, KV]);
        self.random(&format!("{at}.attn_v.weight"), &[WIDTH, KV]);
        self.random(&format!("{at}.attn_output.weight"), &[WIDTH, WIDTH]);
    }

    fn head_norms(&mut self, at: &str) {
        self.norm(&format!("{at}.attn_q_norm.weight"), HEAD);
        self.norm(&format!("{at}.attn_k_norm.weight"), HEAD);
    }

    fn feed_forward(&mut self, at: &str) {
        self.random(&format!("{at}.ffn_gate.weight"), &[WIDTH, FEED_FORWARD]);
        self.random(&format!("{at}.ffn_up.weight"), &[WIDTH, FEED_FORWARD]);
        self.random(&format!("{at}.ffn_down.weight"), &[FEED_FORWARD, WIDTH]);
    }

    fn experts(&mut self, at: &str) {
        self.random(&format!("{at}.ffn_gate_inp.weight"), &[WIDTH, EXPERTS]);
        for (name, columns, rows) in [
            ("gate", WIDTH, FEED_FORWARD),
            ("up", WIDTH, FEED_FORWARD),
            ("down", FEED_FORWARD, WIDTH),
        ] {
            let name = format!("{at}.ffn_{name}_exps.weight");
            self.random(&name, &[columns, rows, EXPERTS]);
        }
    }

    /// Key and value heads of each block; a block with none has a state.
    fn blocks_with_attention(&mut self, blocks: u32, every: u32) {
        let heads = (1..=blocks).map(|n| {
            if n.is_multiple_of(every) {
                i32::try_from(KV_HEADS).unwrap_or(0)
            } else {
                0
            }
        });
        self.set("attention.head_count_kv", Value::Numbers(heads.collect()));
    }

    fn state_sizes(&mut self, inner: u64, state: u64, rank: u64, groups: u64) {
        self.number("ssm.conv_kernel", as_u32(CONV));
        self.number("ssm.inner_size", as_u32(inner));
        self.number("ssm.state_size", as_u32(state));
        self.number("ssm.time_step_rank", as_u32(rank));
        self.number("ssm.group_count", as_u32(groups));
    }
}

/// Writes a tiny model of an architecture. The same arguments produce the same bytes.
///
/// # Errors
/// Those of the file.
pub fn make_family(path: &Path, family: Family, seed: u64) -> io::Result<()> {
    let mut recipe = match family {
        Family::Lfm2 => lfm2(),
        Family::Qwen35 => qwen35(),
        Family::GraniteHybrid => granite_hybrid(),
        Family::Mamba => mamba(),
        Family::Gemma3 => gemma3(),
        Family::LongRope => long_rope(),
        Family::Mla => mla(),
        Family::Moe => moe(),
        Family::T5 => return make_encoder(path, Encoder::T5, seed),
        Family::Bert => return make_encoder(path, Encoder::Bert, seed),
    };
    let vocab = as_u32(VOCABULARY);
    recipe.values.extend(vocabulary(vocab));
    let tensors: Vec<Tensor> = recipe.tensors.iter().map(|(t, _)| t.clone()).collect();
    let mut out = BufWriter::new(File::create(path)?);
    write::write_header(&mut out, &recipe.values, &tensors)?;
    let mut random = Random::new(seed);
    for (tensor, fill) in &recipe.tensors {
        let count: u64 = tensor.shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| match fill {
                Fill::Random => random.next() * spread(tensor.shape[0]),
                Fill::Constant(value) => *value,
            })
            .collect();
        let mut bytes = Vec::new();
        tensor.element.encode(&values, &mut bytes);
        out.write_all(&bytes)?;
        write::pad(&mut out, bytes.len() as u64)?;
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

fn lfm2() -> Recipe {
    const BLOCKS: u32 = 6;
    const LENGTH: u64 = 3;
    let mut r = Recipe::new("lfm2", BLOCKS);
    r.blocks_with_attention(BLOCKS, 3);
    r.number("shortconv.l_cache", as_u32(LENGTH));
    // In this architecture the last norm has this name.
    r.norm("token_embd_norm.weight", WIDTH);
    for n in 1..=BLOCKS {
        let at = format!("blk.{}", n - 1);
        r.norm(&format!("{at}.attn_norm.weight"), WIDTH);
        r.norm(&format!("{at}.ffn_norm.weight"), WIDTH);
        if n.is_multiple_of(3) {
            r.attention(&at, WIDTH);
            r.head_norms(&at);
        } else {
            let name = |part: &str| format!("{at}.shortconv.{part}.weight");
            r.random(&name("conv"), &[LENGTH, WIDTH]);
            r.random(&name("in_proj"), &[WIDTH, 3 * WIDTH]);
            r.random(&name("out_proj"), &[WIDTH, WIDTH]);
        }
        r.feed_forward(&at);
    }
    r
}

fn qwen35() -> Recipe {
    const BLOCKS: u32 = 4;
    const KEY_HEADS: u64 = 2;
    let (keys, values) = (STATE * KEY_HEADS, STATE * STATE_HEADS);
    let mut r = Recipe::new("qwen35", BLOCKS);
    r.number("attention.head_count_kv", as_u32(KV_HEADS));
    r.number("attention.key_length", as_u32(HEAD));
    r.number("attention.value_length", as_u32(HEAD));
    r.number("rope.dimension_count", 16);
    // Text uses the first of four positions.
    r.set("rope.dimension_sections", Value::Numbers(vec![3, 3, 2, 0]));
    r.number("full_attention_interval", BLOCKS);
    r.state_sizes(values, STATE, STATE_HEADS, KEY_HEADS);
    r.norm("output_norm.weight", WIDTH);
    for n in 1..=BLOCKS {
        let at = format!("blk.{}", n - 1);
        r.norm(&format!("{at}.attn_norm.weight"), WIDTH);
        r.norm(&format!("{at}.post_attention_norm.weight"), WIDTH);
        if n == BLOCKS {
            // Half of it is a gate.
            r.attention(&at, 2 * WIDTH);
            r.head_norms(&at);
        } else {
            r.random(
                &format!("{at}.attn_qkv.weight"),
                &[WIDTH, 2 * keys + values],
            );
            r.random(&format!("{at}.attn_gate.weight"), &[WIDTH, values]);
            r.random(
                &format!("{at}.ssm_conv1d.weight"),
                &[CONV, 2 * keys + values],
            );
            r.add(&format!("{at}.ssm_dt.bias"), &[STATE_HEADS], SLOW);
            r.add(&format!("{at}.ssm_a"), &[STATE_HEADS], MINUS_ONE);
            r.random(&format!("{at}.ssm_beta.weight"), &[WIDTH, STATE_HEADS]);
            r.random(&format!("{at}.ssm_alpha.weight"), &[WIDTH, STATE_HEADS]);
            r.norm(&format!("{at}.ssm_norm.weight"), STATE);
            r.random(&format!("{at}.ssm_out.weight"), &[values, WIDTH]);
        }
        r.feed_forward(&at);
    }
    r
}

fn granite_hybrid() -> Recipe {
    const BLOCKS: u32 = 6;
    let inner = 2 * WIDTH;
    let conv = inner + 2 * STATE;
    let mut r = Recipe::new("granitehybrid", BLOCKS);
    r.blocks_with_attention(BLOCKS, 3);
    r.state_sizes(inner, STATE, STATE_HEADS, 1);
    r.norm("output_norm.weight", WIDTH);
    for n in 1..=BLOCKS {
        let at = format!("blk.{}", n - 1);
        r.norm(&format!("{at}.attn_norm.weight"), WIDTH);
        r.norm(&format!("{at}.ffn_norm.weight"), WIDTH);
        if n.is_multiple_of(3) {
            r.attention(&at, WIDTH);
        } else {
            let rows = 2 * inner + 2 * STATE + STATE_HEADS;
            r.random(&format!("{at}.ssm_in.weight"), &[WIDTH, rows]);
            r.random(&format!("{at}.ssm_conv1d.weight"), &[CONV, conv]);
            r.add(&format!("{at}.ssm_conv1d.bias"), &[conv], ZERO);
            r.add(&format!("{at}.ssm_dt.bias"), &[STATE_HEADS], SLOW);
            r.add(&format!("{at}.ssm_a"), &[1, STATE_HEADS], MINUS_ONE);
            r.add(&format!("{at}.ssm_d"), &[1, STATE_HEADS], ONE);
            r.add(&format!("{at}.ssm_norm.weight"), &[inner, 1], ONE);
            r.random(&format!("{at}.ssm_out.weight"), &[inner, WIDTH]);
        }
        r.feed_forward(&at);
    }
    r
}

fn mamba() -> Recipe {
    const BLOCKS: u32 = 3;
    const RANK: u64 = 8;
    const NARROW: u64 = 16;
    let inner = 2 * WIDTH;
    let mut r = Recipe::new("mamba", BLOCKS);
    // No heads, no feed-forward part.
    r.values
        .retain(|(key, _)| !key.ends_with("head_count") && !key.contains("feed_forward"));
    r.number("attention.head_count", 0);
    r.number("feed_forward_length", 0);
    r.state_sizes(inner, NARROW, RANK, 0);
    r.norm("output_norm.weight", WIDTH);
    for n in 0..BLOCKS {
        let at = format!("blk.{n}");
        r.norm(&format!("{at}.attn_norm.weight"), WIDTH);
        r.random(&format!("{at}.ssm_in.weight"), &[WIDTH, 2 * inner]);
        r.random(&format!("{at}.ssm_conv1d.weight"), &[CONV, inner]);
        r.add(&format!("{at}.ssm_conv1d.bias"), &[inner], ZERO);
        r.random(&format!("{at}.ssm_x.weight"), &[inner, RANK + 2 * NARROW]);
        r.random(&format!("{at}.ssm_dt.weight"), &[RANK, inner]);
        r.add(&format!("{at}.ssm_dt.bias"), &[inner], SLOW);
        r.add(&format!("{at}.ssm_a"), &[NARROW, inner], MINUS_ONE);
        r.add(&format!("{at}.ssm_d"), &[inner], ONE);
        r.random(&format!("{at}.ssm_out.weight"), &[inner, WIDTH]);
    }
    r
}

fn gemma3() -> Recipe {
    const BLOCKS: u32 = 6;
    let mut r = Recipe::new("gemma3", BLOCKS);
    r.number("attention.head_count_kv", as_u32(KV_HEADS));
    r.number("attention.key_length", as_u32(HEAD));
    r.number("attention.value_length", as_u32(HEAD));
    r.number("attention.sliding_window", WINDOW);
    r.norm("output_norm.weight", WIDTH);
    for n in 0..BLOCKS {
        let at = format!("blk.{n}");
        for norm in ["attn", "post_attention", "ffn", "post_ffw"] {
            r.norm(&format!("{at}.{norm}_norm.weight"), WIDTH);
        }
        r.attention(&at, WIDTH);
        r.head_norms(&at);
        r.feed_forward(&at);
    }
    r
}

fn long_rope() -> Recipe {
    const BLOCKS: u32 = 2;
    let mut r = Recipe::new("phi3", BLOCKS);
    r.number("attention.head_count_kv", as_u32(KV_HEADS));
    r.number("rope.dimension_count", as_u32(HEAD));
    r.number("rope.scaling.original_context_length", ORIGINAL_CONTEXT);
    r.float("rope.scaling.attn_factor", 1.19);
    r.add("rope_factors_long.weight", &[HEAD / 2], Fill::Constant(8.0));
    r.add("rope_factors_short.weight", &[HEAD / 2], ONE);
    r.norm("output_norm.weight", WIDTH);
    for n in 0..BLOCKS {
        let at = format!("blk.{n}");
        r.norm(&format!("{at}.attn_norm.weight"), WIDTH);
        r.norm(&format!("{at}.ffn_norm.weight"), WIDTH);
        r.random(&format!("{at}.attn_qkv.weight"), &[WIDTH, WIDTH + 2 * KV]);
        r.random(&format!("{at}.attn_output.weight"), &[WIDTH, WIDTH]);
        r.random(&format!("{at}.ffn_up.weight"), &[WIDTH, 2 * FEED_FORWARD]);
        r.random(&format!("{at}.ffn_down.weight"), &[FEED_FORWARD, WIDTH]);
    }
    r
}

fn mla() -> Recipe {
    const BLOCKS: u32 = 2;
    const RANK: u64 = 64;
    const ROTATED: u64 = 16;
    let mut r = Recipe::new("deepseek2", BLOCKS);
    r.number("attention.head_count_kv", 1);
    r.number("leading_dense_block_count", 1);
    r.number("attention.q_lora_rank", as_u32(RANK));
    r.number("attention.kv_lora_rank", as_u32(RANK));
    r.number("attention.key_length", as_u32(RANK + ROTATED));
    r.number("attention.value_length", as_u32(RANK));
    r.number("attention.key_length_mla", as_u32(HEAD + ROTATED));
    r.number("attention.value_length_mla", as_u32(HEAD));
    r.number("rope.dimension_count", as_u32(ROTATED));
    r.number("expert_count", as_u32(EXPERTS));
    r.number("expert_used_count", 2);
    r.number("expert_feed_forward_length", as_u32(FEED_FORWARD));
    r.number("expert_shared_count", 1);
    r.norm("output_norm.weight", WIDTH);
    for n in 0..BLOCKS {
        let at = format!("blk.{n}");
        let name = |part: &str| format!("{at}.{part}.weight");
        r.norm(&name("attn_norm"), WIDTH);
        r.norm(&name("ffn_norm"), WIDTH);
        r.random(&name("attn_q_a"), &[WIDTH, RANK]);
        r.norm(&name("attn_q_a_norm"), RANK);
        r.random(&name("attn_q_b"), &[RANK, HEADS * (HEAD + ROTATED)]);
        r.random(&name("attn_kv_a_mqa"), &[WIDTH, RANK + ROTATED]);
        r.norm(&name("attn_kv_a_norm"), RANK);
        r.random(&name("attn_k_b"), &[HEAD, RANK, HEADS]);
        r.random(&name("attn_v_b"), &[RANK, HEAD, HEADS]);
        r.random(&name("attn_output"), &[HEADS * HEAD, WIDTH]);
        if n == 0 {
            r.feed_forward(&at);
        } else {
            r.experts(&at);
            r.random(&name("ffn_gate_shexp"), &[WIDTH, FEED_FORWARD]);
            r.random(&name("ffn_up_shexp"), &[WIDTH, FEED_FORWARD]);
            r.random(&name("ffn_down_shexp"), &[FEED_FORWARD, WIDTH]);
        }
    }
    r
}

fn moe() -> Recipe {
    const BLOCKS: u32 = 2;
    let mut r = Recipe::new("qwen3moe", BLOCKS);
    r.number("attention.head_count_kv", as_u32(KV_HEADS));
    r.number("expert_count", as_u32(EXPERTS));
    r.number("expert_used_count", 2);
    r.number("expert_feed_forward_length", as_u32(FEED_FORWARD));
    r.norm("output_norm.weight", WIDTH);
    for n in 0..BLOCKS {
        let at = format!("blk.{n}");
        r.norm(&format!("{at}.attn_norm.weight"), WIDTH);
        r.norm(&format!("{at}.ffn_norm.weight"), WIDTH);
        r.attention(&at, WIDTH);
        r.head_norms(&at);
        r.experts(&at);
    }
    r
}

fn as_u32(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
