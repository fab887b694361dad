//! Architectures with attention in every block: sliding windows, two sets of rotation
//! factors, compressed keys, experts.

use super::recipe::{
    EXPERTS, FEED_FORWARD, Fill, HEAD, HEADS, KV, KV_HEADS, ONE, ORIGINAL_CONTEXT, Recipe, WIDTH,
    WINDOW, as_u32,
};

pub(super) fn gemma3() -> Recipe {
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

pub(super) fn long_rope() -> Recipe {
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

pub(super) fn mla() -> Recipe {
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

pub(super) fn moe() -> Recipe {
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
