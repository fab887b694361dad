//! The estimate itself.

use hearth_proto::units::Bytes;
use hearth_proto::{COMPILE_STACK, KvType};

use super::settings::Settings;
use super::sizes::{blocks, cell_bytes, head_widths, kv_heads, state_bytes, usable_kv_type};
use crate::{Header, Place, Shape};

/// The engine without a model: its own memory and the pages of its executables
/// (measured: 5 and 11 MiB).
const PROCESS: u64 = Bytes::mib(16).0;
/// llama.cpp's vocabulary, for each token and each merge (measured with 152,000 of each).
const TOKEN: u64 = 148;
const MERGE: u64 = 136;
/// The tables of constrained answers, for each token (measured).
const CONSTRAINT: u64 = 345;
/// One candidate of a sampler: id, logit, probability (`llama_token_data`).
const CANDIDATE: u64 = 12;
/// Memory of a compute thread for attention: tiles of 64 by 64 and a head's width in
/// 32-bit floats (`GGML_OP_FLASH_ATTN_EXT` in ggml-cpu.c), and its stack.
const THREAD: u64 = 256 * 1024;
/// In addition to the estimate: stacks of 8 MiB for the compute threads and a few others,
/// and space for the C library's arenas and for the longest frames, which exist as text,
/// JSON and tokens at the same time.
const STACK: u64 = Bytes::mib(8).0;
const OTHER_THREADS: u64 = 4;
const SLACK: u64 = Bytes::mib(256).0;
/// Largest size of the parser of one constrained answer (its limits in
/// `prompt::constraint`, at 2 kB per state).
const PARSER: u64 = Bytes::mib(128).0;
/// The longest text that is embedded, in tokens.
const EMBEDDING_TOKENS: u64 = 2048;

/// Memory that a loaded model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Weights as the kernels use them: mapped from the file, or repacked.
    pub weights: Bytes,
    /// Keys and values, and recurrent states.
    pub kv: Bytes,
    /// Activations and logits.
    pub compute: Bytes,
    /// Vocabulary, samplers, tables, the process itself.
    pub other: Bytes,
    /// All of these: what the model needs.
    pub total: Bytes,
    /// Pages of the file that were read only to repack them. They count as resident after
    /// loading, but the kernel reclaims them as soon as it needs memory.
    pub reclaimable: Bytes,
}

/// Estimates the memory of a model that is loaded with these settings.
pub fn estimate(header: &Header, settings: &Settings) -> Estimate {
    let (weights, reclaimable) = weights(header, settings);
    let sequences = settings.sequences(header);
    let kv_type = usable_kv_type(header, settings.kv_type);
    let mut kv = sum([
        settings.cells().saturating_mul(cell_bytes(header, kv_type)),
        sequences.saturating_mul(state_bytes(header)),
    ]);
    let batch = u64::from(settings.engine.micro_batch.max(1)).min(settings.cells());
    let mut compute = compute_bytes(&header.shape, settings.cells(), batch, sequences);
    if settings.embeddings {
        let cells = u64::from(header.context_train).clamp(1, EMBEDDING_TOKENS);
        let cells = cells.next_multiple_of(256);
        let batch = u64::from(settings.engine.micro_batch);
        // It computes logits for every token of a batch.
        let second = compute_bytes(&header.shape, cells, batch, batch);
        compute = compute.saturating_add(second);
        kv = kv.saturating_add(cells.saturating_mul(cell_bytes(header, KvType::F16)));
    }
    let other = other_bytes(header, settings);
    Estimate {
        weights: Bytes(weights),
        kv: Bytes(kv),
        compute: Bytes(compute),
        other: Bytes(other),
        total: Bytes(sum([weights, kv, compute, other])),
        reclaimable: Bytes(reclaimable),
    }
}

/// The most memory of its own that an engine can need: everything that it may do later
/// included, with a quarter added for what the estimate does not cover, and the KV cache a
/// second time, since it is copied when it is saved. The mapped file is not counted. The
/// bound is loose: it stops what could never fit, not slow growth, which the governor's
/// memory states handle.
pub fn memory_max(header: &Header, settings: &Settings) -> Bytes {
    let all = estimate(
        header,
        &Settings {
            constraints: true,
            embeddings: true,
            ..*settings
        },
    );
    let rearranged = all.weights.0.saturating_add(all.reclaimable.0);
    let weights = rearranged.saturating_sub(header.weight_bytes());
    let known = sum([weights, all.kv.0, all.compute.0, all.other.0]);
    let threads = u64::from(settings.threads).saturating_add(OTHER_THREADS);
    Bytes(sum([
        known,
        known / 4,
        all.kv.0,
        threads.saturating_mul(STACK),
        COMPILE_STACK as u64,
        PARSER.saturating_mul(settings.slots.into()),
        SLACK,
    ]))
}

/// Bytes of the weights in use, and of the pages that are no longer used.
fn weights(header: &Header, settings: &Settings) -> (u64, u64) {
    let mut used = header.weight_bytes();
    let mut left = 0u64;
    for w in &header.weights {
        if !settings.repack.takes(w.element) {
            continue;
        }
        if w.place != Place::Embedding {
            left = left.saturating_add(w.in_eights);
        } else if header.is_tied() {
            // The rows are still looked up in the file; as the output matrix it is repacked.
            used = used.saturating_add(w.in_eights);
        }
    }
    (used, left)
}

/// Bytes of activations and logits: llama.cpp's largest graph, a whole micro-batch with
/// the cache full, with flash attention (which is always on). Attention, feed-forward
/// and the output matrix are computed one after the other and share their memory.
fn compute_bytes(shape: &Shape, cells: u64, batch: u64, rows: u64) -> u64 {
    let (keys, values) = head_widths(shape);
    let kv_heads = (0..blocks(shape)).map(|b| kv_heads(shape, b)).max();
    let kv_heads = u64::from(kv_heads.unwrap_or(0));
    let cells = if kv_heads == 0 { 0 } else { cells };
    let [width, heads, vocabulary] = [shape.width, shape.heads, shape.vocabulary].map(u64::from);
    let experts = u64::from(shape.experts_used) * u64::from(shape.expert_feed_forward);
    let inner = u64::from(shape.recurrent.inner_size).saturating_mul(2);
    let wide = u64::from(shape.feed_forward).max(experts).max(inner);

    let floats = |columns: u64| batch.saturating_mul(4).saturating_mul(columns);
    let masks = if shape.sliding_window > 0 { 2 } else { 1 };
    let inputs = sum([
        cells.saturating_mul(batch).saturating_mul(2 * masks),
        floats(width),
    ]);
    let attention = floats(sum([
        3 * width,
        heads.saturating_mul(keys).saturating_mul(2),
        kv_heads.saturating_mul(keys + values),
    ]));
    let feed_forward = floats(sum([5 * width, wide.saturating_mul(3)]));
    let logits = rows.saturating_mul(vocabulary * 4);
    let last = sum([logits, floats(4 * width)]);
    // Activations in the type that a matrix product takes, at most 16 bits each.
    let work = batch.saturating_mul(2).saturating_mul(wide.max(width));
    // The logits are copied out.
    let outputs = logits;
    let graph = attention.max(feed_forward).max(last);
    sum([inputs, graph, work, outputs])
}

fn other_bytes(header: &Header, settings: &Settings) -> u64 {
    let vocabulary = u64::from(header.shape.vocabulary);
    let slots = u64::from(settings.slots.max(1));
    let tables = if settings.constraints { CONSTRAINT } else { 0 };
    sum([
        PROCESS,
        u64::from(settings.threads).saturating_mul(THREAD),
        vocabulary * (TOKEN + tables),
        u64::from(header.shape.merges) * MERGE,
        (vocabulary * CANDIDATE).saturating_mul(slots),
    ])
}

fn sum<const N: usize>(parts: [u64; N]) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}
