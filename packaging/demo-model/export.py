"""Writes the trained weights as GGUF files that llama.cpp loads, and reads them back."""

import json

import gguf
import jax
import numpy as np
from gguf import GGMLQuantizationType, quants

import check
import data

TYPES = {"F16": GGMLQuantizationType.F16, "Q8_0": GGMLQuantizationType.Q8_0,
         "Q4_0": GGMLQuantizationType.Q4_0}
FILE_TYPES = {"F16": gguf.LlamaFileType.MOSTLY_F16, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
              "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}
CONTEXT = 8192


def rounded(p, kind):
    """The weights as they are after a round trip through `kind`."""
    def one(x):
        x = np.asarray(x, np.float32)
        if x.ndim == 1:
            return x
        return quants.dequantize(quants.quantize(x, TYPES[kind]), TYPES[kind]).reshape(x.shape)
    return jax.tree_util.tree_map(one, p)


def flat(p):
    """(GGUF tensor name, array) of all weights."""
    for name, value in p.items():
        if isinstance(value, dict):
            for inner, array in value.items():
                yield f"{name}.{inner}.weight", array
        else:
            yield f"{name}.weight", value


def write(path, p, tokenizer, config, kind, specials):
    """One GGUF file; the output matrix is the embedding (tied), so it has none."""
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_name("Hearth Demo")
    w.add_description("Demo model of Hearthd: capitals, small facts, sums, house commands")
    w.add_license("MIT OR Apache-2.0")
    w.add_size_label("1.8M")
    w.add_file_type(FILE_TYPES[kind])
    w.add_quantization_version(2)
    w.add_context_length(CONTEXT)
    w.add_embedding_length(config["width"])
    w.add_block_count(config["layers"])
    w.add_feed_forward_length(config["ff"])
    w.add_head_count(config["heads"])
    w.add_head_count_kv(config["kv_heads"])
    w.add_rope_dimension_count(config["width"] // config["heads"])
    w.add_rope_freq_base(config["rope_base"])
    w.add_layer_norm_rms_eps(config["eps"])
    w.add_vocab_size(tokenizer.get_vocab_size())
    # Greedy decoding suits a model that knows facts and little else.
    w.add_float32("general.sampling.temp", 0.0)

    inner = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(inner["vocab"], key=inner["vocab"].get)
    control = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    types = [gguf.TokenType.CONTROL if t in control
             else gguf.TokenType.USER_DEFINED if t in specials else gguf.TokenType.NORMAL for t in tokens]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in inner["merges"]])
    w.add_eos_token_id(tokens.index("<|im_end|>"))
    w.add_pad_token_id(tokens.index("<|endoftext|>"))
    w.add_add_bos_token(False)
    w.add_chat_template(data.CHAT_TEMPLATE)

    for name, array in flat(p):
        array = np.asarray(array, np.float32)
        if array.ndim == 1:
            w.add_tensor(name, array)
        else:
            w.add_tensor(name, quants.quantize(array, TYPES[kind]), raw_dtype=TYPES[kind])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def read(path):
    """The weights of a GGUF file, as `train.init` names them, and its tokenizer."""
    model, p = check.Model(path), {}
    for name, array in model.tensors.items():
        layer, _, inner = name.removesuffix(".weight").rpartition(".")
        (p.setdefault(layer, {}) if layer else p)[inner] = array
    return p, model.tokenizer
