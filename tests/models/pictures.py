"""Pictures and sounds in Hearthd and in a distribution's llama-server: the same greedy answers?

Real text models with projectors of random weights and real shapes (few blocks, so that it does
not take minutes), which both servers load; the same picture or sound, the same question. What
random weights make of it is far from what the model has learnt, so small differences of rounding
grow: how far apart two right answers may be is measured, by llama-server with and without flash
attention. An inverted picture, or another sound, has to differ by more, else the case tells
nothing.

usage: tests/models/pictures.py [--out FILE]
  --out FILE   write the table between FILE's lines <!-- pictures --> and <!-- /pictures -->;
               else to standard output
Needs what `make test-models` sets up.
"""

import argparse
import base64
import datetime
import http.client
import json
import math
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import types

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "benches/peers"))
import run as peers  # noqa: E402

TOKENS = 24
# The likeliest first tokens of which the log-probabilities are compared.
CANDIDATES = 20
# How many times the difference of llama-server from itself is still equal.
NOISE_FACTOR = 3
# Model, projector, and tokens that the model's vocabulary gets in place of reserved ones.
IDEFICS = ["<fake_token_around_image>", "<global-img>"]
CASES = [
    ("gemma3-270m", "gemma3-4b:2", []),
    ("smollm2-135m", "janus-pro-1b:2", []),
    ("smollm2-135m", "smolvlm-256m:2", IDEFICS),
    ("smollm2-135m", "ultravox-1b:2", []),
]
# Sizes of pictures: smaller and larger than what is encoded at once.
SIZES = [(120, 80), (700, 900)]
# Seconds of sounds: one stretch of what is encoded at once, and two.
SECONDS = [4, 40]
RATE = 16000


def bmp(width, height, invert=0):
    """A bitmap with some structure; `invert` of 255 gives its negative."""
    row = (width * 3 + 3) // 4 * 4
    head = b"BM" + struct.pack("<IIIIiiHHIIiiII", 54 + row * height, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    lines = (
        bytes((x * 255 // row, y * 255 // height, (x // 90 + y // 30) % 2 * 200)[x % 3] ^ invert for x in range(row))
        for y in range(height)
    )
    return head + b"".join(lines)


def wav(seconds, noise=False):
    """Syllables of a tone that rises, or noise."""
    count, dice = seconds * RATE, random.Random(1)
    tone = lambda n: 12000 * math.sin(math.tau * 200 * (1 + n / count) * n / RATE) if n // 4000 % 3 else 0
    wave = (lambda n: dice.randrange(-12000, 12000)) if noise else tone
    samples = struct.pack(f"<{count}h", *(int(wave(n)) for n in range(count)))
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVEfmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", len(samples))
    return head + samples


def picture_part(data):
    url = "data:image/bmp;base64," + base64.b64encode(data).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def sound_part(data):
    sound = {"data": base64.b64encode(data).decode(), "format": "wav"}
    return {"type": "input_audio", "input_audio": sound}


def inputs(shape):
    """Names of inputs for a projector, the inputs as parts of a message, and others."""
    if shape.startswith("ultravox"):
        names = [f"sound of {seconds} s" for seconds in SECONDS]
        sounds = [[sound_part(wav(seconds, noise)) for seconds in SECONDS] for noise in (False, True)]
        return names, *sounds
    names = [f"{width} x {height}" for width, height in SIZES]
    pictures = [[picture_part(bmp(*size, invert=invert)) for size in SIZES] for invert in (0, 255)]
    return names, *pictures


class Reader:
    """The header of a GGUF file (version 3), as far as it is needed to change tokens."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def text(self):
        length = self.number("Q")
        self.at += length
        return self.data[self.at - length : self.at]

    def skip(self, kind):
        sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
        if kind == 8:
            self.text()
        elif kind == 9:
            inner, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip(inner)
        else:
            self.at += sizes[kind]


def with_tokens(source, target, names):
    """Copies a model, and renames control tokens that a chat does not use."""
    reader = Reader(source.read_bytes())
    data = reader.data
    reader.at = 8
    tensors, pairs = reader.number("Q"), reader.number("Q")
    found = None
    for _ in range(pairs):
        key, kind = reader.text(), reader.number("I")
        if key == b"tokenizer.ggml.tokens":
            reader.at += 12
            found = reader.at
            (count,) = struct.unpack_from("<Q", data, found - 8)
            tokens = [reader.text() for _ in range(count)]
            end = reader.at
        else:
            reader.skip(kind)
    for _ in range(tensors):
        reader.text()
        dimensions = reader.number("I")
        reader.at += 8 * dimensions + 12
    unused = [n for n, token in enumerate(tokens) if token.startswith(b"<") and b"im_" not in token and b"endoftext" not in token]
    for name, place in zip(names, unused):
        tokens[place] = name.encode()
    packed = b"".join(struct.pack("<Q", len(token)) + token for token in tokens)
    head = data[:found] + packed + data[end : reader.at]
    head += bytes(-len(head) % 32)
    with target.open("wb") as out:
        out.write(head)
        out.write(data[(reader.at + 31) // 32 * 32 :])


class LlamaServer(peers.LlamaServer):
    attention = "on"

    def options(self, model):
        plain = ["--cache-ram", 0, "--ctx-checkpoints", 0, "--swa-full", "--jinja", "--no-warmup"]
        return super().options(model) + plain + ["--mmproj", self.projector, "--flash-attn", self.attention]


class OtherRounding(LlamaServer):
    attention = "off"


class Hearthd(peers.Hearthd):
    def start(self, model):
        folder = pathlib.Path(self.folder) / "models"
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / "mmproj-peers.gguf"
        link.unlink(missing_ok=True)
        link.symlink_to(self.projector)
        super().start(model)


def ask(server, part):
    question = "What is said?" if part["type"] == "input_audio" else "What is in this picture?"
    content = [part, {"type": "text", "text": question}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    connection = server.connection()
    try:
        options = {"logprobs": True, "top_logprobs": CANDIDATES, "cache_prompt": False}
        connection.request("POST", "/v1/chat/completions", json.dumps(body | options), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise peers.Failed(str(answer)[:300])
        return answer
    finally:
        connection.close()


def steps(answer):
    return (answer["choices"][0].get("logprobs") or {}).get("content") or []


def candidates(answer):
    return {token["token"]: token["logprob"] for token in steps(answer)[0]["top_logprobs"]}


def first_token_difference(one, other):
    """The mean difference of log-probability over the first tokens that both think likely."""
    ours, theirs = candidates(one), candidates(other)
    common = ours.keys() & theirs.keys()
    if not common:
        return float("inf")
    return sum(abs(ours[token] - theirs[token]) for token in common) / len(common)


def equal_tokens(one, other):
    """How many tokens two greedy answers have in common before they part, in words."""
    pairs = list(zip(steps(one), steps(other)))
    equal = next((n for n, (a, b) in enumerate(pairs) if a["token"] != b["token"]), len(pairs))
    return f"{equal} of {TOKENS}"


def run_case(bench, case, folder):
    """The comparisons of one model with one projector, or why there are none."""
    prefix, shape, names = case
    engine = bench.release / "hearth-engine"
    fetched = subprocess.run([HERE / "fetch.sh", prefix], stdout=subprocess.PIPE, text=True, check=True)
    model = pathlib.Path(fetched.stdout.splitlines()[0]).resolve()
    if names:
        changed = folder / f"{model.stem}-images.gguf"
        with_tokens(model, changed, names)
        model = changed
    width = {"gemma3-270m": 640, "smollm2-135m": 576}[prefix]
    projector = folder / f"{shape.replace(':', '-')}-{width}.gguf"
    words = [engine, "make-model", "--projector", shape, "--text-width", str(width), "--out", projector]
    subprocess.run(words, check=True)
    labels, shown, others = inputs(shape)
    answers = []
    for kind in (LlamaServer, OtherRounding, Hearthd):
        server = kind(bench, f"{kind.__name__}-{prefix}-{shape.split(':')[0]}")
        server.projector = projector
        server.start(model)
        try:
            answers.append([ask(server, part) for part in shown])
            if kind is Hearthd:
                answers.append([ask(server, part) for part in others])
        finally:
            server.stop()
    theirs, rounding, mine, wrong = answers
    noise = max(first_token_difference(one, other) for one, other in zip(rounding, theirs))
    return [
        {
            "model": prefix,
            "projector": shape,
            "input": label,
            "prompt": [answer["usage"]["prompt_tokens"] for answer in (mine[n], theirs[n])],
            "noise": noise,
            "difference": first_token_difference(mine[n], theirs[n]),
            "other": first_token_difference(wrong[n], theirs[n]),
            "equal": equal_tokens(mine[n], theirs[n]),
            "equal_to_itself": equal_tokens(rounding[n], theirs[n]),
        }
        for n, label in enumerate(labels)
    ]


def complaint(row):
    """What is wrong with a comparison, or None."""
    name = f"{row['model']} with {row['projector']}, {row['input']}"
    mine, theirs = row["prompt"]
    bound = NOISE_FACTOR * row["noise"]
    if mine != theirs:
        return f"{name}: {mine} prompt tokens, and llama-server has {theirs}"
    if row["difference"] > bound:
        return f"{name}: the first token differs by {row['difference']:.3f}, allowed is {bound:.3f}"
    if row["other"] <= bound:
        return f"{name}: another input differs by {row['other']:.3f} only, so this shows nothing"
    return None


def report(version, results):
    date = datetime.date.today().isoformat()
    lines = [
        f"{peers.cpu()}, {date}; llama-server {version}. Mean difference of the natural logarithm of",
        f"the probability, over the {CANDIDATES} likeliest first tokens; equal tokens of a greedy answer.",
        "",
        "| Model | projector (random weights) | input | prompt tokens | Hearthd from llama-server | without flash attention | the negative, or another sound | equal tokens | without flash attention |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for r in results:
        numbers = [f"{r[key]:.3f}" for key in ("difference", "noise", "other")]
        cells = [r["model"], f"`{r['projector']}`", r["input"], str(r["prompt"][0])]
        lines.append("| " + " | ".join(cells + numbers + [r["equal"], r["equal_to_itself"]]) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="tests/models/pictures.py")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    debian = target / "peers" / f"debian-{os.environ.get('DEBIAN_SUITE', 'forky')}"
    if not (debian / "usr/bin/llama-server").exists():
        sys.exit("pictures: no llama-server: benches/peers/setup.sh llama-server says why")
    results = []
    with tempfile.TemporaryDirectory(prefix="pictures.") as scratch:
        folder = pathlib.Path(scratch)
        bench = types.SimpleNamespace(folder=folder, debian=debian, threads=2, release=target / "release")
        version = LlamaServer(bench, "version").version()
        for case in CASES:
            peers.note(f"{case[0]} with {case[1]}")
            results += run_case(bench, case, folder)
    text = report(version, results)
    if arguments.out:
        peers.put(text, arguments.out, "pictures")
    else:
        print(text)
    wrong = [text for text in map(complaint, results) if text]
    if wrong:
        sys.exit("pictures: " + "\npictures: ".join(wrong))


if __name__ == "__main__":
    try:
        main()
    except (peers.Failed, OSError, http.client.HTTPException) as error:
        sys.exit(f"pictures: {error}")
