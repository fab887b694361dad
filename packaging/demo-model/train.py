"""Trains the demo model and writes its files, in one command:

    python train.py --out . --work /tmp/demo-model

or goes on from finished weights, once plainly and once with 4-bit rounding in every
forward pass (quantization-aware training):

    python train.py --qat hearth-demo-f16.gguf --out /tmp/qat

A llama-architecture transformer small enough for the repository: see README.md for
what it is and is not. CPU only; everything is drawn from fixed seeds.
"""

import argparse
import json
import pickle
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import data
import export
import home
from network import CONFIG, VOCAB, as_q4_0, forward, init, loss_of

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
# First facts, in short rows; then tools as well, whose descriptions fill most of a row;
# then commands in homes as Home Assistant describes them, first under short prompts, then
# under whole ones, beside rows of the kinds before. `homes` says from which step a size of
# home comes, and every how many steps; `results` what share of calls is gone on from, a
# fifth if left out. Rates follow a cosine; some stages are left before its end. The last
# one's goes down to nothing, which quantization likes.
STAGES = [
    {"steps": 800, "warmup": 100, "cosine": 1250, "rate": 4e-3, "rows": 16, "row": 384, "tools_share": 0.0, "seed": 2},
    {"steps": 450, "warmup": 100, "cosine": 450, "rate": 2.5e-3, "rows": 12, "row": 512, "tools_share": 0.3, "seed": 5},
    {"steps": 500, "warmup": 50, "cosine": 1000, "rate": 1.5e-3, "rows": 6, "row": 512, "tools_share": 0.3, "seed": 21,
     "talk": (8, 128), "homes": [("tiny", 0, 1)]},
    {"steps": 350, "warmup": 10, "cosine": 350, "rate": 1.0e-3, "rows": 6, "row": 512, "tools_share": 0.3, "seed": 22,
     "talk": (8, 128), "homes": [("tiny", 0, 1), ("small", 10, 3), ("whole", 60, 20)]},
    {"steps": 200, "warmup": 10, "cosine": 200, "rate": 8e-4, "rows": 4, "row": 512, "tools_share": 0.3, "seed": 23,
     "talk": (12, 128), "homes": [("small", 0, 1), ("whole", 0, 20)]},
    {"steps": 110, "warmup": 10, "cosine": 110, "rate": 8e-4, "rows": 4, "row": 512, "tools_share": 0.3, "seed": 24,
     "talk": (5, 320), "results": 0.6, "homes": [("tiny", 0, 1), ("small", 0, 2), ("whole", 0, 20)]},
    {"steps": 100, "warmup": 10, "cosine": 100, "rate": 8e-4, "rows": 4, "row": 512, "tools_share": 0.3, "seed": 25,
     "talk": (6, 320), "results": 0.5, "homes": [("small", 0, 1), ("whole", 0, 20)]},
]
# How many tokens the prompt of a home may have, and whether to learn through it: long ones
# are only read. In half of the short ones positions are left out somewhere, up to as many
# as the longest has: so distances are learnt that cost nothing.
HOMES = {"tiny": (576, True), "small": (3072, False), "whole": (6656, False)}
# What `--qat` adds, to both of its runs alike.
FURTHER = {"steps": 100, "warmup": 10, "cosine": 100, "rate": 4e-4, "rows": 2, "row": 512,
           "tools_share": 0.1, "seed": 11}
# llama.cpp's pre-tokenizer "qwen2": digits one by one, words with their space.
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def make_tokenizer(seed):
    """Byte-level BPE over the generated text."""
    sampler = data.Sampler(seed)

    def texts():
        for _ in range(20000):
            for text, _ in data.render(*sampler.conversation()):
                yield text

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIALS, min_frequency=4,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


class Talks:
    """Rows of conversations that share a home. `homes` of a stage says from which step a
    size of home comes, and every how many steps; the last one that fits is taken."""

    def __init__(self, rows):
        self.rows = rows
        self.talk = home.Talk(rows.sampler, rows.stage.get("results", 0.2))

    def size(self, step):
        return [size for size, begin, every in self.rows.stage["homes"] if step >= begin and step % every == 0][-1]

    def batch(self, step):
        size, rng = self.size(step), self.rows.sampler.rng
        longest, learn = HOMES[size]
        while True:
            place = home.Home(rng, size)
            (prompt, _), = data.render([{"role": "system", "content": place.system}], place.tools)
            ids = self.rows.tokenizer.encode(prompt).ids
            if len(ids) <= longest:
                break
        padded = np.zeros(longest, np.int32)
        padded[:len(ids)] = ids
        places = np.arange(longest)
        if learn and rng.random() < 0.5:
            places[rng.randrange(len(ids)):] += rng.randrange(HOMES["whole"][0])
        count, row = self.rows.stage["talk"]
        packed = self.rows.pack(count, row, lambda: self.rows.tokens(self.talk.turn(place), None, 0.0))
        return *packed, (padded, places, len(ids)), learn


class Rows:
    """Packs conversations into rows of tokens, segments and loss weights."""

    def __init__(self, tokenizer, stage, held_out=False):
        self.tokenizer = tokenizer
        self.stage = stage
        self.sampler = data.Sampler(stage["seed"], held_out=held_out)
        self.cache = {}

    def encode(self, text):
        ids = self.cache.get(text)
        if ids is None:
            ids = self.tokenizer.encode(text).ids
            if len(self.cache) < 300_000:
                self.cache[text] = ids
        return ids

    def tokens(self, messages, tools, rest):
        """Tokens and their weights in the loss: 1 in answers, `rest` elsewhere."""
        tokens, weights = [], []
        for text, is_answer in data.render(messages, tools):
            ids = self.encode(text)
            tokens += ids
            weights += [1.0 if is_answer else rest] * len(ids)
        return tokens, weights

    def conversation(self):
        share, rng = self.stage["tools_share"], self.sampler.rng
        draw = self.sampler.tool_conversation if share and rng.random() < share else self.sampler.conversation
        # A little weight on the rest teaches what words are like.
        return self.tokens(*draw(), 0.05)

    def batch(self):
        return self.pack(self.stage["rows"], self.stage["row"], self.conversation)

    def pack(self, rows, row, draw):
        """As many conversations as fit into rows, one segment each."""
        def cut():
            tokens, weights = draw()
            return tokens[:row], weights[:row]

        tokens = np.zeros((rows, row), np.int32)
        segment = np.zeros((rows, row), np.int32)
        weight = np.zeros((rows, row), np.float32)
        pending = cut()
        for r in range(rows):
            at, n = 0, 1
            while at + len(pending[0]) <= row:
                t, w = pending
                tokens[r, at:at + len(t)] = t
                segment[r, at:at + len(t)] = n
                weight[r, at:at + len(t)] = w
                at, n = at + len(t), n + 1
                pending = cut()
        return tokens, segment, weight


@jax.jit
def next_logits(p, tokens, lengths):
    logits = forward(p, tokens, jnp.ones_like(tokens))
    return logits[jnp.arange(tokens.shape[0]), lengths - 1]


def evaluate(p, tokenizer, lines):
    """Greedy answers to the held-out questions: {kind: (right, all)}."""
    end = tokenizer.token_to_id("<|im_end|>")
    score = {}
    order = sorted(range(len(lines)), key=lambda n: bool(lines[n]["tools"]))
    for start in range(0, len(order), 60):
        some = [lines[n] for n in order[start:start + 60]]
        width = 512 if some[-1]["tools"] else 96
        prompts = [tokenizer.encode("".join(t for t, _ in data.render(x["messages"], x["tools"]))
                                    + "<|im_start|>assistant\n").ids for x in some]
        tokens = np.zeros((60, width), np.int32)
        lengths = np.ones(60, np.int32)
        for n, ids in enumerate(prompts):
            tokens[n, :len(ids)], lengths[n] = ids, len(ids)
        begin, done = lengths.copy(), np.zeros(60, bool)
        for _ in range(48):
            best = np.asarray(next_logits(p, tokens, lengths)).argmax(-1)
            done |= (best == end) | (lengths >= width)
            if done[:len(some)].all():
                break
            for n in np.nonzero(~done)[0]:
                tokens[n, lengths[n]] = best[n]
                lengths[n] += 1
        for n, line in enumerate(some):
            text = tokenizer.decode(tokens[n, begin[n]:lengths[n]].tolist(), skip_special_tokens=False)
            right, all_ = score.get(line["kind"], (0, 0))
            score[line["kind"]] = (right + is_right(text, line), all_ + 1)
    return score


def is_right(text, line):
    """Whether an answer counts; the same rule is in crates/hearth-engine/tests/engine/accuracy.rs."""
    if "accept_call" in line:
        inner = text.split("<tool_call>")[-1].split("</tool_call>")[0]
        try:
            return json.loads(inner) == line["accept_call"]
        except ValueError:
            return False
    return any(a.lower() in text.lower() for a in line["accept"])


def show(name, score):
    right, all_ = (sum(v[n] for v in score.values()) for n in (0, 1))
    kinds = ", ".join(f"{k} {r}/{a}" for k, (r, a) in sorted(score.items()))
    return f"{name}: {100 * right / all_:.1f} % ({right}/{all_}): {kinds}"


def fit(p, stage, rows, say, seen=lambda p: p, keep=lambda n, p: None):
    """Trains one stage; `seen` turns the weights into those of the forward pass, and
    `keep` is told them every 25 steps."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, stage["rate"], stage["warmup"], stage["cosine"], stage["rate"] / 100)
    decay = jax.tree_util.tree_map(lambda x: x.ndim > 1, p)
    opt = optax.chain(optax.clip_by_global_norm(1.0),
                      optax.adamw(schedule, b2=0.98, weight_decay=0.02, mask=decay))
    state = opt.init(p)
    talks = Talks(rows) if "homes" in stage else None

    @partial(jax.jit, static_argnums=5)
    def learn(p, tokens, segment, weight, home=None, through=True):
        home = (*home, through) if home is not None else None
        return jax.value_and_grad(lambda p: loss_of(seen(p), tokens, segment, weight, home))(p)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(p, state, grads):
        grad = jax.tree_util.tree_map(lambda *x: sum(x), *grads)
        update, state = opt.update(grad, state, p)
        return optax.apply_updates(p, update), state

    say(f"stage {stage}")
    began, losses, talked = time.monotonic(), [], []
    for n in range(1, stage["steps"] + 1):
        loss, grad = learn(p, *rows.batch())
        losses, grads = [*losses, loss], [grad]
        if talks:
            loss, grad = learn(p, *talks.batch(n))
            talked, grads = [*talked, loss], [*grads, grad]
        p, state = step(p, state, grads)
        if n % 50 == 0 or n in (10, stage["steps"]):
            in_homes = f", in homes {np.mean([float(x) for x in talked]):.4f}" if talks else ""
            say(f"step {n} loss {np.mean([float(x) for x in losses]):.4f}{in_homes} {time.monotonic() - began:.0f} s")
            losses, talked = [], []
        if n % 25 == 0:
            keep(n, p)
    return p


def held_out_loss(tokenizer):
    """A function that gives the loss on held-out phrasings, the same ones each time."""
    rows = Rows(tokenizer, {**FURTHER, "seed": 17}, held_out=True)
    batches = [rows.batch() for _ in range(10)]
    one = jax.jit(loss_of)
    return lambda p: np.mean([float(one(p, *batch)) for batch in batches])


def further(args):
    """Goes on from a GGUF's weights twice, in the same rows: `control` plainly, `qat`
    rounded to Q4_0 in every forward pass. Their F16 files are for `hearthctl quantize`."""
    args.out.mkdir(parents=True, exist_ok=True)
    log = open(args.out / "train-qat.log", "w", encoding="utf-8")

    def say(text):
        print(text, flush=True)
        print(text, file=log, flush=True)

    begin, tokenizer = export.read(args.qat)
    score = held_out_loss(tokenizer)
    say(f"start: held-out loss {score(begin):.4f}, rounded to Q4_0 {score(as_q4_0(begin)):.4f}")
    for name, seen in (("control", lambda p: p), ("qat", as_q4_0)):
        say(name)
        p = fit(jax.tree_util.tree_map(jnp.array, begin), FURTHER, Rows(tokenizer, FURTHER), say, seen)
        say(f"{name}: held-out loss {score(p):.4f}, rounded to Q4_0 {score(as_q4_0(p)):.4f}")
        p = jax.tree_util.tree_map(np.asarray, p)
        export.write(args.out / f"{name}-f16.gguf", p, tokenizer, CONFIG, "F16", SPECIALS)


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--out", type=Path, default=Path("."), help="folder of the finished files")
    args.add_argument("--work", type=Path, default=Path("/tmp/demo-model"), help="folder of checkpoints")
    args.add_argument("--from-stage", type=int, default=1, help="go on from the checkpoint before this stage")
    args.add_argument("--qat", type=Path, metavar="GGUF", help="instead, go on from this F16 file, with and without rounding")
    args = args.parse_args()
    if args.qat:
        return further(args)
    args.work.mkdir(parents=True, exist_ok=True)
    log = open(args.out / "train.log", "w" if args.from_stage == 1 else "a", encoding="utf-8")

    def say(text):
        print(text, flush=True)
        print(text, file=log, flush=True)

    saved = args.work / "tokenizer.json"
    if args.from_stage == 1:
        make_tokenizer(seed=1).save(str(saved))
    p, tokenizer = init(jax.random.PRNGKey(3), VOCAB), Tokenizer.from_file(str(saved))
    assert tokenizer.get_vocab_size() == VOCAB, tokenizer.get_vocab_size()
    lines = data.held_out()
    (args.out / "heldout.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    if args.from_stage == 1:
        count = sum(x.size for x in jax.tree_util.tree_leaves(p))
        say(f"parameters {count}, vocabulary {VOCAB}, {CONFIG}")
    else:
        p = pickle.loads((args.work / f"stage{args.from_stage - 1}.pickle").read_bytes())
    for n, stage in enumerate(STAGES[args.from_stage - 1:], args.from_stage):

        def keep(step, p):
            part = args.work / f"stage{n}-{step}.pickle"
            part.write_bytes(pickle.dumps(jax.tree_util.tree_map(np.asarray, p)))

        p = fit(jax.tree_util.tree_map(jnp.array, p), stage, Rows(tokenizer, stage), say, keep=keep)
        (args.work / f"stage{n}.pickle").write_bytes(pickle.dumps(jax.tree_util.tree_map(np.asarray, p)))

    p = jax.tree_util.tree_map(np.asarray, p)
    for kind in ("F16", "Q8_0", "Q4_0"):
        if kind != "Q4_0":  # Q4_0 is measured, not shipped
            export.write(args.out / f"hearth-demo-{kind.lower()}.gguf", p, tokenizer, CONFIG, kind, SPECIALS)
        say(show(kind, evaluate(export.rounded(p, kind), tokenizer, lines)))


if __name__ == "__main__":
    main()
