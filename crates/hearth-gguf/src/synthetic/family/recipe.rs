//! What the tiny models are made of: sizes, keys and tensors.

use crate::write::{ElementType, Tensor, Value};

/// Embedding width of all of them.
pub(super) const WIDTH: u64 = 128;
pub(super) const HEADS: u64 = 4;
pub(super) const HEAD: u64 = WIDTH / HEADS;
pub(super) const KV_HEADS: u64 = 2;
pub(super) const KV: u64 = HEAD * KV_HEADS;
pub(super) const FEED_FORWARD: u64 = 256;
pub(super) const VOCABULARY: u64 = 600;
pub(super) const CONTEXT: u32 = 8192;
/// Gated delta nets and Mamba 2: number of state heads, and their width.
pub(super) const STATE_HEADS: u64 = 4;
pub(super) const STATE: u64 = 32;
pub(super) const CONV: u64 = 4;
pub(super) const EXPERTS: u64 = 4;
/// Sliding window in tokens.
pub(super) const WINDOW: u32 = 64;
/// Original training context, in tokens, of the model with two sets of rotation factors.
pub(super) const ORIGINAL_CONTEXT: u32 = 1024;

/// The values of a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fill {
    /// Random, so that a unit input stays at unit variance.
    Random,
    /// All the same.
    Constant(f32),
}

/// The state decays slowly, so that a wrong one is visible many tokens later:
/// exp(-softplus(-5)) is 0.993 per token.
pub(super) const SLOW: Fill = Fill::Constant(-5.0);
pub(super) const ONE: Fill = Fill::Constant(1.0);
pub(super) const MINUS_ONE: Fill = Fill::Constant(-1.0);
pub(super) const ZERO: Fill = Fill::Constant(0.0);

/// Keys and tensors collected before they are written.
pub(super) struct Recipe {
    arch: &'static str,
    pub(super) values: Vec<(String, Value)>,
    pub(super) tensors: Vec<(Tensor, Fill)>,
}

impl Recipe {
    pub(super) fn new(arch: &'static str, blocks: u32) -> Self {
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

    pub(super) fn set(&mut self, key: &str, value: Value) {
        self.values.push((format!("{}.{key}", self.arch), value));
    }

    pub(super) fn number(&mut self, key: &str, value: u32) {
        self.set(key, Value::U32(value));
    }

    pub(super) fn float(&mut self, key: &str, value: f32) {
        self.set(key, Value::F32(value));
    }

    pub(super) fn add(&mut self, name: &str, shape: &[u64], fill: Fill) {
        let tensor = Tensor {
            name: name.into(),
            shape: shape.to_vec(),
            element: ElementType::F32,
        };
        self.tensors.push((tensor, fill));
    }

    pub(super) fn random(&mut self, name: &str, shape: &[u64]) {
        self.add(name, shape, Fill::Random);
    }

    pub(super) fn norm(&mut self, name: &str, width: u64) {
        self.add(name, &[width], ONE);
    }

    pub(super) fn attention(&mut self, at: &str, query: u64) {
        self.random(&format!("{at}.attn_q.weight"), &[WIDTH, query]);
        self.random(&format!("{at}.attn_k.weight"), &[WIDTH, KV]);
        self.random(&format!("{at}.attn_v.weight"), &[WIDTH, KV]);
        self.random(&format!("{at}.attn_output.weight"), &[WIDTH, WIDTH]);
    }

    pub(super) fn head_norms(&mut self, at: &str) {
        self.norm(&format!("{at}.attn_q_norm.weight"), HEAD);
        self.norm(&format!("{at}.attn_k_norm.weight"), HEAD);
    }

    pub(super) fn feed_forward(&mut self, at: &str) {
        self.random(&format!("{at}.ffn_gate.weight"), &[WIDTH, FEED_FORWARD]);
        self.random(&format!("{at}.ffn_up.weight"), &[WIDTH, FEED_FORWARD]);
        self.random(&format!("{at}.ffn_down.weight"), &[FEED_FORWARD, WIDTH]);
    }

    pub(super) fn experts(&mut self, at: &str) {
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
    pub(super) fn blocks_with_attention(&mut self, blocks: u32, every: u32) {
        let heads = (1..=blocks).map(|n| {
            if n.is_multiple_of(every) {
                i32::try_from(KV_HEADS).unwrap_or(0)
            } else {
                0
            }
        });
        self.set("attention.head_count_kv", Value::Numbers(heads.collect()));
    }

    pub(super) fn state_sizes(&mut self, inner: u64, state: u64, rank: u64, groups: u64) {
        self.number("ssm.conv_kernel", as_u32(CONV));
        self.number("ssm.inner_size", as_u32(inner));
        self.number("ssm.state_size", as_u32(state));
        self.number("ssm.time_step_rank", as_u32(rank));
        self.number("ssm.group_count", as_u32(groups));
    }
}

pub(super) fn as_u32(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
