//! Sizes of a model's memory of one token and of one sequence, from its header.

use hearth_proto::KvType;

use crate::{Header, Shape};

/// Bytes of one cell of the KV cache: a token in all blocks.
pub fn cell_bytes(header: &Header, kv_type: KvType) -> u64 {
    let shape = &header.shape;
    let (keys, values) = head_widths(shape);
    // Values stay 16-bit floats; a block of 32 eight-bit keys has a 2-byte scale.
    let keys = match kv_type {
        KvType::F16 => keys * 2,
        KvType::Q8_0 => keys.div_ceil(32) * 34,
    };
    let blocks = blocks(shape).saturating_sub(shape.shared_kv_blocks);
    let heads = (0..blocks).map(|block| u64::from(kv_heads(shape, block)));
    let heads = heads.fold(0, u64::saturating_add);
    heads.saturating_mul(keys.saturating_add(values * 2))
}

/// The key type that a model can have: eight-bit keys are stored in blocks of 32, so the
/// width of a head must be a multiple of 32.
pub fn usable_kv_type(header: &Header, wanted: KvType) -> KvType {
    let (keys, _) = head_widths(&header.shape);
    if wanted == KvType::Q8_0 && !keys.is_multiple_of(32) {
        return KvType::F16;
    }
    wanted
}

/// Widths of one head's keys and values.
pub(super) fn head_widths(shape: &Shape) -> (u64, u64) {
    let even = u64::from(shape.width / shape.heads.max(1));
    let width = |own: u32| if own == 0 { even } else { u64::from(own) };
    (width(shape.key_length), width(shape.value_length))
}

/// Blocks, of which llama.cpp takes at most 512 (`LLAMA_MAX_LAYERS`).
pub(super) fn blocks(shape: &Shape) -> u32 {
    shape.blocks.min(512)
}

/// Key and value heads of a block; 0 where it has a state instead.
pub(super) fn kv_heads(shape: &Shape, block: u32) -> u32 {
    let interval = shape.recurrent.attention_interval;
    if interval > 1 && !(block + 1).is_multiple_of(interval) {
        return 0;
    }
    match shape.kv_heads.as_slice() {
        [] if is_state_only(shape) => 0,
        [] => shape.heads,
        [all] => *all,
        each => each.get(block as usize).copied().unwrap_or(0),
    }
}

/// Whether no block has attention (Mamba, RWKV).
fn is_state_only(shape: &Shape) -> bool {
    let r = shape.recurrent;
    (r.state_size > 0 || r.wkv_head_size > 0) && shape.heads == 0
}

/// Whether a model has recurrent states: neither the end nor the beginning of one can be
/// removed.
pub(super) fn is_recurrent(header: &Header) -> bool {
    let r = &header.shape.recurrent;
    r.state_size > 0 || r.wkv_head_size > 0 || r.short_conv > 0
}

/// Bytes of one sequence's states (`n_embd_r` and `n_embd_s` in llama-hparams.cpp).
pub(super) fn state_bytes(header: &Header) -> u64 {
    let shape = &header.shape;
    let r = shape.recurrent;
    let [width, conv, inner, state, group, wkv, short] = [
        shape.width,
        r.conv_kernel,
        r.inner_size,
        r.state_size,
        r.group_count,
        r.wkv_head_size,
        r.short_conv,
    ]
    .map(u64::from);
    let floats = if wkv > 0 {
        width.saturating_mul(wkv + 2)
    } else if short > 0 {
        width.saturating_mul(short - 1)
    } else {
        let columns = inner.saturating_add(group.saturating_mul(state).saturating_mul(2));
        let conv = conv.saturating_sub(1).saturating_mul(columns);
        conv.saturating_add(state.saturating_mul(inner))
    };
    let attention = (0..shape.blocks)
        .filter(|b| kv_heads(shape, *b) > 0)
        .count();
    let blocks = u64::from(shape.blocks);
    // Where every block has attention, every block has a state, too (Falcon-H1).
    let others = match blocks.saturating_sub(attention as u64) {
        0 => blocks,
        others => others,
    };
    floats.saturating_mul(4).saturating_mul(others)
}
