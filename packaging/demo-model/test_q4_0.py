"""Checks that the rounding of quantization-aware training is llama.cpp's, byte by byte:

    python test_q4_0.py hearth-demo-f16.gguf
    python test_q4_0.py hearth-demo-f16.gguf --quantized demo-q4_0.gguf

The first compares with the `gguf` package, on the file's weights and on blocks that are
hard to round; `--quantized` compares with what `hearthctl quantize` made of the file.
"""

import argparse
from pathlib import Path

import gguf
import jax
import numpy as np
from gguf import GGMLQuantizationType, quants

import export
import network

Q4_0 = GGMLQuantizationType.Q4_0
# Compiled, as in training: a compiler may round otherwise than single operations do.
PARTS, ROUNDED = jax.jit(network.q4_0_parts), jax.jit(network.q4_0)


def packed(x):
    """A matrix's bytes in a GGUF file: per block an F16 scale, then two codes a byte."""
    d, codes = (np.asarray(part) for part in PARTS(x))
    codes = codes.astype(np.uint8)
    pairs = codes[:, :16] | codes[:, 16:] << 4
    return np.concatenate([d.view(np.uint8), pairs], -1).reshape(len(x), -1)


def hard_blocks():
    """Zeros, the largest on either side and on both, halves, the smallest numbers, noise."""
    rng = np.random.default_rng(1)
    rows = [np.zeros(32), -np.zeros(32), np.linspace(-1, 1, 32), np.linspace(1, -1, 32),
            np.tile([8.0, -8.0], 16), (np.arange(32) - 16) / 2, (np.arange(32) - 15) / 2,
            np.full(32, 6e-8), np.full(32, -6e-8), np.arange(32) * 6e-8]
    rows += list(rng.normal(size=(2000, 32)) * 10 ** rng.uniform(-6, 3, (2000, 1)))
    # A power of two as the largest: many products then end in exactly a half.
    rows += [np.concatenate([[2.0 ** n], rng.integers(-16, 16, 31) * 2.0 ** n / 16]) for n in range(-8, 8)]
    return np.array(rows, np.float16).astype(np.float32)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    args.add_argument("file", type=Path)
    args.add_argument("--quantized", type=Path)
    args = args.parse_args()
    matrices = {name: x for name, x in export.flat(export.read(args.file)[0]) if x.ndim > 1}
    for name, x in {**matrices, "hard blocks": hard_blocks()}.items():
        theirs = quants.quantize(x, Q4_0)
        assert np.array_equal(packed(x), theirs), f"{name}: other bytes than the gguf package's"
        assert np.array_equal(ROUNDED(x), quants.dequantize(theirs, Q4_0)), f"{name}: other weights"
    print(f"{len(matrices)} matrices and {len(hard_blocks())} hard blocks: the gguf package's bytes")
    slope = jax.grad(lambda x: (network.q4_0(x) * 3).sum())(hard_blocks())
    assert (np.asarray(slope) == 3).all(), "the gradient is not passed straight through"

    if args.quantized:
        kinds = {}
        for t in gguf.GGUFReader(args.quantized).tensors:
            kinds.setdefault(t.tensor_type.name, []).append(t.name)
            if t.tensor_type == Q4_0:
                assert np.array_equal(t.data, packed(matrices[t.name])), f"{t.name}: other bytes than llama.cpp's"
        trained = sorted(name for name in matrices if name.startswith("blk."))
        assert sorted(kinds.pop("Q4_0", [])) == trained, "other matrices than those rounded in training"
        print(f"{len(trained)} matrices: llama.cpp's bytes; kept otherwise:",
              ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items()))


if __name__ == "__main__":
    main()
