//! Architectures with states: short convolutions, gated delta nets, Mamba.

use super::recipe::{
    CONV, HEAD, KV_HEADS, MINUS_ONE, ONE, Recipe, SLOW, STATE, STATE_HEADS, WIDTH, ZERO, as_u32,
};
use crate::write::Value;

pub(super) fn lfm2() -> Recipe {
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

pub(super) fn qwen35() -> Recipe {
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

pub(super) fn granite_hybrid() -> Recipe {
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

pub(super) fn mamba() -> Recipe {
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
