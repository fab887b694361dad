"""The network of the demo model, its loss, and the rounding of Q4_0."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

VOCAB = 1024
CONFIG = {"layers": 4, "width": 256, "heads": 4, "kv_heads": 2, "ff": 256,
          "rope_base": 10000.0, "eps": 1e-5}


def init(key, vocab):
    """Random weights under their GGUF names, as [out, in] matrices."""
    c = CONFIG
    w, head = c["width"], c["width"] // c["heads"]
    kv = head * c["kv_heads"]
    keys = iter(jax.random.split(key, 64))

    def matrix(out, inp, scale=1.0):
        return jax.random.normal(next(keys), (out, inp)) * scale / np.sqrt(inp)

    p = {"token_embd": jax.random.normal(next(keys), (vocab, w)) * 0.02 * 3, "output_norm": jnp.ones(w)}
    for n in range(c["layers"]):
        deep = 1 / np.sqrt(2 * c["layers"])
        p[f"blk.{n}"] = {
            "attn_norm": jnp.ones(w), "attn_q": matrix(w, w), "attn_k": matrix(kv, w),
            "attn_v": matrix(kv, w), "attn_output": matrix(w, w, deep), "ffn_norm": jnp.ones(w),
            "ffn_gate": matrix(c["ff"], w), "ffn_up": matrix(c["ff"], w), "ffn_down": matrix(w, c["ff"], deep)}
    return p


def norm(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + CONFIG["eps"]) * scale


def rope(x, at):
    """Rotates neighbouring pairs (2i, 2i+1), ggml's NORM type, used by `llama`."""
    head = x.shape[-1]
    freq = CONFIG["rope_base"] ** (-jnp.arange(0, head, 2) / head)
    angle = at[..., None] * freq
    cos, sin = jnp.cos(angle)[:, :, None], jnp.sin(angle)[:, :, None]
    a, b = x[..., 0::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


def attend(heads, keys, values, segment, before):
    """Attention within segments, and to what came `before` all of them: keys, values and
    how many of them count. In pieces, since nothing attends to what comes later."""
    out, t = [], heads.shape[1]
    for i in range(0, t, 512):
        j = min(i + 512, t)
        mask = jnp.tril(jnp.ones((j - i, j), bool), i) & (segment[:, i:j, None] == segment[:, None, :j])
        scores = jnp.einsum("bqhd,bkhd->bhqk", heads[:, i:j], keys[:, :j])
        scores = scores / np.sqrt(heads.shape[-1]) + jnp.where(mask, 0.0, -1e9)[:, None]
        if before is None:
            out.append(jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), values[:, :j]))
            continue
        old_keys, old_values, count = before
        n = old_keys.shape[1]
        old = jnp.einsum("bqhd,khd->bhqk", heads[:, i:j], old_keys[0]) / np.sqrt(heads.shape[-1])
        old = old + jnp.where(jnp.arange(n) < count, 0.0, -1e9)
        shares = jax.nn.softmax(jnp.concatenate([old, scores], -1))
        out.append(jnp.einsum("bhqk,khd->bqhd", shares[..., :n], old_values[0])
                   + jnp.einsum("bhqk,bkhd->bqhd", shares[..., n:], values[:, :j]))
    return jnp.concatenate(out, 1)


def block(q, x, at, segment, before=None):
    """One layer: its output, and its keys and values."""
    c = CONFIG
    b, t, width = x.shape
    head = width // c["heads"]
    y = norm(x, q["attn_norm"])
    heads = rope((y @ q["attn_q"].T).reshape(b, t, c["heads"], head), at)
    keys = rope((y @ q["attn_k"].T).reshape(b, t, c["kv_heads"], head), at)
    values = (y @ q["attn_v"].T).reshape(b, t, c["kv_heads"], head)
    group = c["heads"] // c["kv_heads"]
    keys, values = jnp.repeat(keys, group, 2), jnp.repeat(values, group, 2)
    x = x + attend(heads, keys, values, segment, before).reshape(b, t, -1) @ q["attn_output"].T
    y = norm(x, q["ffn_norm"])
    return x + (jax.nn.silu(y @ q["ffn_gate"].T) * (y @ q["ffn_up"].T)) @ q["ffn_down"].T, keys, values


def forward(p, tokens, segment, home=None):
    """Logits of every position. With a `home` (the tokens of a prompt, their positions, how
    many of them count, and whether to learn through it), every segment goes on from it."""
    place = jnp.arange(tokens.shape[1])
    begins = jnp.concatenate([jnp.ones_like(segment[:, :1], bool), segment[:, 1:] != segment[:, :-1]], 1)
    at = place - jax.lax.cummax(jnp.where(begins, place, 0), axis=1)
    x, before = p["token_embd"][tokens], None
    if home is not None:
        prompt, places, count, learn = home
        at = at + places[count - 1] + 1
        told = p["token_embd"][prompt][None]
    for n in range(CONFIG["layers"]):
        q = p[f"blk.{n}"]
        if home is not None:
            told, keys, values = block(q, told, places[None], jnp.zeros((1, len(prompt)), int))
            before = keys, values, count
            if not learn:
                told, before = jax.lax.stop_gradient((told, before))
        x, _, _ = block(q, x, at, segment, before)
    return norm(x, p["output_norm"]) @ p["token_embd"].T


def q4_0_steps():
    """From which x/d on the code is 1, 2, … 15: where `(int) (x/d + 8.5f)` takes a step.

    Compared with, instead of added to, since XLA rounds a product and its sum once where
    the machine can, and llama.cpp twice."""
    steps = []
    for code in range(1, 16):
        step = np.float32(code - 8.5)
        while (before := np.nextafter(step, np.float32(-9))) + np.float32(8.5) >= code:
            step = before
        steps.append(step)
    return steps


Q4_0_STEPS = q4_0_steps()


def q4_0_parts(x):
    """A matrix as Q4_0 holds it, in blocks of 32: scales and codes 0 to 15, by the
    arithmetic of llama.cpp's `quantize_row_q4_0_ref`; test_q4_0.py compares bytes.

    Weights become F16 first, as they do in the file that llama.cpp quantizes."""
    blocks = x.astype(jnp.float16).astype(jnp.float32).reshape(-1, 32)
    largest = jnp.take_along_axis(blocks, jnp.abs(blocks).argmax(-1, keepdims=True), -1)
    d = largest / -8
    in_steps = blocks * jnp.where(d == 0, 0, 1 / d)
    codes = sum((in_steps >= step).astype(jnp.float32) for step in Q4_0_STEPS)
    return d.astype(jnp.float16), codes


@jax.custom_vjp
def q4_0(x):
    """A matrix after the round trip through Q4_0; gradients pass straight through."""
    d, codes = q4_0_parts(x)
    return (d.astype(jnp.float32) * (codes - 8)).reshape(x.shape)


q4_0.defvjp(lambda x: (q4_0(x), None), lambda _, gradient: (gradient,))


def as_q4_0(p):
    """The weights as a Q4_0 file has them. llama.cpp stores the embedding, which is the
    output matrix as well, as Q6_K: its far smaller rounding is left out here."""
    return {name: {k: q4_0(x) if x.ndim > 1 else x for k, x in value.items()} if isinstance(value, dict) else value
            for name, value in p.items()}


def loss_of(p, tokens, segment, weight, home=None):
    logits = forward(p, tokens, segment, home)[:, :-1]
    target = tokens[:, 1:]
    same = (segment[:, 1:] == segment[:, :-1]) & (segment[:, 1:] > 0)
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, target)
    w = weight[:, 1:] * same
    return (nll * w).sum() / w.sum()
