"""Checks finished GGUF files without the training code's help:

    python check.py hearth-demo-f16.gguf hearth-demo-q8_0.gguf
    python check.py --as Q4_0 hearth-demo-f16.gguf

Reads metadata, tokenizer and weights back from the file itself, compares the chat
template and the tokenizer with what the model was trained on, and answers the
held-out questions greedily in NumPy, with a key-value cache, and the commands in homes.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, quants
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

import data
import home

# llama.cpp's pre-tokenizer "qwen2".
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


class Model:
    """A model as the file describes it."""

    def __init__(self, path, requantize=None):
        reader = gguf.GGUFReader(path)
        self.meta = {key: field.contents() for key, field in reader.fields.items()}
        self.tensors = {}
        for t in reader.tensors:
            x = np.array(quants.dequantize(t.data, t.tensor_type), np.float32)
            if requantize and x.ndim > 1:
                kind = GGMLQuantizationType[requantize]
                x = quants.dequantize(quants.quantize(x, kind), kind)
            self.tensors[t.name] = x
        meta = self.meta
        assert meta["general.architecture"] == "llama"
        assert meta["tokenizer.ggml.model"] == "gpt2" and meta["tokenizer.ggml.pre"] == "qwen2"
        assert not meta["tokenizer.ggml.add_bos_token"]
        self.layers = meta["llama.block_count"]
        self.heads = meta["llama.attention.head_count"]
        self.kv_heads = meta["llama.attention.head_count_kv"]
        self.head = meta["llama.embedding_length"] // self.heads
        self.eps = meta["llama.attention.layer_norm_rms_epsilon"]
        self.freq = meta["llama.rope.freq_base"] ** (-np.arange(0, self.head, 2) / self.head)
        self.tokenizer = self.make_tokenizer()

    def make_tokenizer(self):
        """The tokenizer that llama.cpp builds from the same metadata."""
        tokens = self.meta["tokenizer.ggml.tokens"]
        merges = [tuple(m.split(" ")) for m in self.meta["tokenizer.ggml.merges"]]
        tokenizer = Tokenizer(models.BPE({t: n for n, t in enumerate(tokens)}, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
        special = [t for t, kind in zip(tokens, self.meta["tokenizer.ggml.token_type"])
                   if kind in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)]
        tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
        return tokenizer

    def norm(self, x, name):
        scale = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps)
        return x * scale * self.tensors[name + ".weight"]

    def rope(self, x, start):
        angle = (start + np.arange(len(x)))[:, None] * self.freq
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape).astype(np.float32)

    def step(self, ids, cache):
        """Logits after `ids`; `cache` holds keys and values of what came before."""
        w = self.tensors
        x = w["token_embd.weight"][ids]
        n, start = len(ids), cache[0][0].shape[1] if cache[0] else 0
        allowed = np.arange(start + n)[None] <= start + np.arange(n)[:, None]
        for layer in range(self.layers):
            b = f"blk.{layer}."
            y = self.norm(x, b + "attn_norm")
            q = self.rope((y @ w[b + "attn_q.weight"].T).reshape(n, self.heads, -1), start)
            k = self.rope((y @ w[b + "attn_k.weight"].T).reshape(n, self.kv_heads, -1), start)
            v = (y @ w[b + "attn_v.weight"].T).reshape(n, self.kv_heads, -1)
            k, v = k.transpose(1, 0, 2), v.transpose(1, 0, 2)
            if cache[layer]:
                k = np.concatenate([cache[layer][0], k], 1)
                v = np.concatenate([cache[layer][1], v], 1)
            cache[layer] = (k, v)
            group = self.heads // self.kv_heads
            scores = q.transpose(1, 0, 2) @ np.repeat(k, group, 0).transpose(0, 2, 1)
            scores = np.where(allowed, scores / np.sqrt(self.head), -np.inf)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            mixed = (scores @ np.repeat(v, group, 0)).transpose(1, 0, 2).reshape(n, -1)
            x = x + mixed @ w[b + "attn_output.weight"].T
            y = self.norm(x, b + "ffn_norm")
            gate = y @ w[b + "ffn_gate.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (y @ w[b + "ffn_up.weight"].T)) @ w[b + "ffn_down.weight"].T
        return self.norm(x[-1:], "output_norm") @ w["token_embd.weight"].T

    def answer(self, messages, tools, limit=96, cache=None):
        """The greedy answer; `cache` holds what came before, if anything."""
        prompt = "".join(t for t, _ in data.render(messages, tools)) + "<|im_start|>assistant\n"
        ids, out, cache = self.tokenizer.encode(prompt).ids, [], list(cache or [None] * self.layers)
        while len(out) < limit:
            best = int(self.step(ids, cache)[0].argmax())
            if best == self.meta["tokenizer.ggml.eos_token_id"]:
                break
            out.append(best)
            ids = [best]
        return self.tokenizer.decode(out, skip_special_tokens=False)


def is_right(text, line):
    """The rule of crates/hearth-engine/tests/engine/accuracy.rs."""
    if "accept_call" in line:
        inner = text.split("<tool_call>")[-1].split("</tool_call>")[0]
        try:
            return json.loads(inner) == line["accept_call"]
        except ValueError:
            return False
    text = text.lower()
    return (any(a.lower() in text for a in line["accept"])
            and not any(r.lower() in text for r in line.get("reject", [])))


def home_calls(model, wrong):
    """Commands in homes, as Home Assistant describes them: {kind: (all, called a tool, the
    right one, with the right name)}. Home Assistant takes names in any case, so case does
    not count."""
    score, known, cache = {}, None, None
    for kind, place, question, call in home.held_out():
        if place is not known:  # read its prompt once
            known, cache = place, [None] * model.layers
            (prompt, _), = data.render([{"role": "system", "content": place.system}], place.tools)
            model.step(model.tokenizer.encode(prompt).ids, cache)
        text = model.answer([{"role": "user", "content": question}], None, cache=cache)
        inner = text.split("<tool_call>")[-1].split("</tool_call>")[0]
        try:
            made = json.loads(inner)
            tool = made["name"] == call["name"]
            name = tool and made["arguments"]["name"].lower() == call["arguments"]["name"].lower()
        except (ValueError, KeyError, TypeError, AttributeError):
            tool = name = False
        if wrong and not name:
            print(f"  {kind}: {question!r} -> {text!r}")
        now = (1, "<tool_call>" in text, tool, name)
        score[kind] = tuple(a + b for a, b in zip(score.get(kind, (0, 0, 0, 0)), now))
    return score


def check_template(model):
    """The template in the file gives the text that the model was trained on."""
    import jinja2
    env = jinja2.Environment()
    env.policies["json.dumps_kwargs"] = {"sort_keys": False}
    # jinja2's own tojson escapes HTML characters; models want plain JSON.
    env.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
    template = env.from_string(model.meta["tokenizer.chat_template"])
    sampler = data.Sampler(99)
    for _ in range(300):
        messages, tools = sampler.conversation()
        ours = "".join(t for t, _ in data.render(messages, tools))
        assert template.render(messages=messages, tools=tools) == ours, messages
    call = {"function": {"name": "open", "arguments": {"name": "x"}}}
    text = template.render(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert data.call_text("open", {"name": "x"}) in text, text


def check_tokenizer(model, path):
    """The file's tokenizer splits as the one saved in training."""
    trained = Tokenizer.from_file(str(path))
    sampler = data.Sampler(98)
    samples = ["", " ", "  a\n\n b", "Ünïcödé 漢字 🙂", "1234567", "don't WE'LL", "<tool_call>\n{}</tool_call>"]
    samples += ["".join(t for t, _ in data.render(*sampler.conversation())) for _ in range(60)]
    for text in samples:
        assert model.tokenizer.encode(text).ids == trained.encode(text).ids, text
        assert model.tokenizer.decode(trained.encode(text).ids, skip_special_tokens=False) == text, text
    return len(samples)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    args.add_argument("files", nargs="+", type=Path)
    args.add_argument("--as", dest="kind", help="round the weights through this type first")
    args.add_argument("--tokenizer", type=Path, help="tokenizer.json of the training run to compare with")
    args.add_argument("--wrong", action="store_true", help="print each wrong answer")
    args = args.parse_args()
    lines = [json.loads(x) for x in (Path(__file__).parent / "heldout.jsonl").read_text().splitlines()]
    for path in args.files:
        model = Model(path, args.kind)
        check_template(model)
        if args.tokenizer:
            print(f"{path.name}: {check_tokenizer(model, args.tokenizer)} texts split alike")
        score = {}
        for line in lines:
            text = model.answer(line["messages"], line["tools"])
            good = is_right(text, line)
            right, count = score.get(line["kind"], (0, 0))
            score[line["kind"]] = (right + good, count + 1)
            if args.wrong and not good:
                print(f"  {line['id']}: {line['messages'][0]['content']!r} -> {text!r}")
        right, count = (sum(v[n] for v in score.values()) for n in (0, 1))
        kinds = ", ".join(f"{k} {r}/{a}" for k, (r, a) in sorted(score.items()))
        print(f"{path.name}{' as ' + args.kind if args.kind else ''}: "
              f"{100 * right / count:.1f} % ({right}/{count}): {kinds}", flush=True)
        for kind, (count, called, tool, name) in home_calls(model, args.wrong).items():
            print(f"  home_call {kind}: called a tool {called}/{count}, the right one {tool}, with the right name {name}",
                  flush=True)


if __name__ == "__main__":
    main()
