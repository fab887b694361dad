"""What a second model costs: the switch between two, and between adapters of one, an answer beside
an embedding run, and the speed of embeddings beside llama-server.

usage: benches/models/speed.py [--texts N] [--rounds N] [--json FILE] [--out FILE]
  --texts N      texts that are embedded in one request (500)
  --rounds N     repetitions, of which the median counts (9)
  --json FILE    writes the results
  --out FILE     writes the table between FILE's lines <!-- several --> and <!-- /several -->;
                 else to standard output
Needs the built executables in target/release (CARGO_TARGET_DIR), the models of tests/models
(HEARTH_MODELS), and llama-server as `make test-models` unpacks it; without it that row is left out.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import evening  # noqa: E402

ROOT = HERE.parents[1]
CHAT = "smollm2-135m-instruct-q4_1"
OTHER = "qwen2.5-coder-0.5b-q4_k_m"
ADAPTER = "tone"
# The classes of work that the governor divides need answers of some length.
TOKENS = 64
PORT = 18431


class Board:
    """The machine's own memory."""

    def enter(self):
        pass

    def command(self, words):
        return words


def median(values):
    return statistics.median(values)


def switches(daemon, rounds):
    """Milliseconds to the first token: the same model again, and two in turn."""

    def first(model):
        return evening.chat(daemon, model, "Hello.", "interactive", 1)[0] * 1000

    for model in (CHAT, OTHER) * 3:
        first(model)
    same, turns = [], []
    for _ in range(rounds):
        same.append((first(CHAT) + first(CHAT)) / 2 + 0.0)
        same_other = (first(OTHER) + first(OTHER)) / 2
        turn = (first(CHAT) + first(OTHER)) / 2
        turns.append(turn - (same[-1] + same_other) / 2)
    return median(same), median(turns)


def make_adapter(folder):
    """An adapter of random weights; its values do not matter for the time."""
    words = [evening.TARGET / "release/hearth-engine", "make-adapter"]
    words += ["--base", evening.MODELS / f"{CHAT}.gguf", "--out", folder / "models" / f"{ADAPTER}.gguf"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def adapters(rounds):
    """The engine's CPU time for a request of one token, in milliseconds: without an adapter again,
    with one again, and where the request before had another one. With one thread, that is what it
    takes, whatever else the machine does."""
    with tempfile.TemporaryDirectory(prefix="several.") as folder:
        daemon = evening.Daemon(pathlib.Path(folder), Board(), 0, "threads = 1\n")
        try:
            make_adapter(pathlib.Path(folder))

            def ask(*scales):
                """The CPU time of a request with each of these scales in turn."""
                before = cpu_ns(daemon)
                for scale in scales * rounds:
                    lora = {ADAPTER: scale} if scale else {}
                    evening.chat(daemon, CHAT, "Hello.", "interactive", 1, lora=lora)
                return (cpu_ns(daemon) - before) / 1e6 / len(scales) / rounds

            ask(0, 1)
            return {
                "plain_ms": ask(0, 0),
                "adapter_ms": ask(1, 1),
                "adapter_turn_ms": ask(0, 1),
            }
        finally:
            daemon.close()


def cpu_ns(daemon):
    """CPU time of the daemon's only engine."""
    pid = daemon.process.pid
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    engines = " ".join(task.read_text() for task in tasks).split()
    threads = [task for pid in engines for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def answer(daemon):
    """Milliseconds to the first token, and milliseconds for each further one."""
    began = time.monotonic()
    body = {
        "model": CHAT,
        "messages": [{"role": "user", "content": f"Tell me about {time.time_ns()}. " * 8}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "priority": "interactive",
        "stream": True,
    }
    first = None
    for line in daemon.post("/v1/chat/completions", body):
        if b'"content":"' in line and first is None:
            first = time.monotonic() - began
    whole = time.monotonic() - began
    return first * 1000, (whole - first) * 1000 / (TOKENS - 1)


def texts(count):
    return [f"{n}. {evening.TEXT}" for n in range(count)]


def embed(daemon, count):
    body = {"model": evening.EMBEDDER, "input": texts(count)}
    daemon.post("/v1/embeddings", body).read()


def beside(daemon, rounds):
    """The same answers alone and while texts are embedded, alternating."""
    answer(daemon)
    embed(daemon, 8)
    alone, loaded = [], []
    stop = threading.Event()
    running = threading.Event()

    def burst():
        while not stop.is_set():
            if running.wait(0.1):
                embed(daemon, 20)

    thread = threading.Thread(target=burst)
    thread.start()
    try:
        for _ in range(rounds):
            running.clear()
            time.sleep(1.5)
            alone.append(answer(daemon))
            running.set()
            time.sleep(0.5)
            loaded.append(answer(daemon))
    finally:
        stop.set()
        thread.join()
    pick = lambda values, at: median([value[at] for value in values])  # noqa: E731
    return {
        "first_alone_ms": pick(alone, 0),
        "first_beside_ms": pick(loaded, 0),
        "token_alone_ms": pick(alone, 1),
        "token_beside_ms": pick(loaded, 1),
    }


class LlamaServer:
    def __init__(self):
        sys.path.insert(0, str(ROOT / "benches/peers"))
        suite = os.environ.get("DEBIAN_SUITE", "forky")
        root = evening.TARGET / f"peers/debian-{suite}"
        libraries = next(root.glob("usr/lib/*/libllama.so.0")).parent
        loader = next(libraries.glob("ld-linux-*"))
        variants = next(libraries.glob("ggml/backends*"))
        words = [loader, "--library-path", f"{libraries}:{libraries}/llama"]
        threads = os.cpu_count()
        model = evening.MODELS / f"{evening.EMBEDDER}.gguf"
        words += [root / "usr/bin/llama-server", "--model", model, "--embeddings"]
        words += ["--threads", threads, "--threads-batch", threads, "--port", PORT]
        words = [str(word) for word in words]
        log = subprocess.DEVNULL
        self.process = subprocess.Popen(words, cwd=variants, stdout=log, stderr=log)

    def post(self, path, body):
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=600)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise evening.Failed(response.read().decode())
        return response

    def ready(self):
        for _ in range(600):
            try:
                return embed(self, 1)
            except (OSError, evening.Failed):
                time.sleep(0.1)
        raise evening.Failed("llama-server does not start")

    def close(self):
        self.process.terminate()
        self.process.wait()


def embeddings(daemon, count, rounds):
    """Texts per second: Hearthd's, and llama-server's or None."""

    def rate(server):
        began = time.monotonic()
        embed(server, count)
        return count / (time.monotonic() - began)

    try:
        server = LlamaServer()
    except StopIteration:
        server = None
    ours, theirs = [], []
    try:
        if server:
            server.ready()
        embed(daemon, 8)
        for _ in range(rounds):
            ours.append(rate(daemon))
            if server:
                theirs.append(rate(server))
    finally:
        if server:
            server.close()
    return median(ours), median(theirs) if theirs else None


def table(r):
    lines = [
        "| What | Measured |",
        "|---|---|",
        f"| Switch between two models in memory | {r['switch_ms']:+.1f} ms to the first token, "
        f"which takes {r['same_ms']:.1f} ms |",
        f"| Change of the adapter between two requests | "
        f"{r['adapter_turn_ms'] - (r['plain_ms'] + r['adapter_ms']) / 2:+.1f} ms of CPU time for a "
        f"request of one token, which takes {r['plain_ms']:.1f} ms without and "
        f"{r['adapter_ms']:.1f} ms with an adapter |",
        f"| First token of an answer while another model embeds | "
        f"{r['first_beside_ms'] / r['first_alone_ms']:.2f} times "
        f"({r['first_alone_ms']:.0f} ms alone) |",
        f"| Each further token meanwhile | {r['token_beside_ms'] / r['token_alone_ms']:.2f} times "
        f"({r['token_alone_ms']:.1f} ms alone) |",
    ]
    if r["llama_server_texts_per_s"]:
        ratio = r["texts_per_s"] / r["llama_server_texts_per_s"]
        lines.append(
            f"| Embeddings | {r['texts_per_s']:.0f} texts/s, {ratio:.2f} times llama-server's "
            f"{r['llama_server_texts_per_s']:.0f} |"
        )
    else:
        lines.append(f"| Embeddings | {r['texts_per_s']:.0f} texts/s |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\nNeeds")[0])
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="several.") as folder:
        daemon = evening.Daemon(pathlib.Path(folder), Board(), 0)
        try:
            same, switch = switches(daemon, args.rounds)
            result = {"same_ms": same, "switch_ms": switch} | beside(daemon, args.rounds)
            ours, theirs = embeddings(daemon, args.texts, max(3, args.rounds // 3))
            result |= {"texts_per_s": ours, "llama_server_texts_per_s": theirs}
        finally:
            daemon.close()
    result |= adapters(args.rounds)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.out:
        text = args.out.read_text()
        before, rest = text.split("<!-- several -->\n", 1)
        after = rest.split("<!-- /several -->", 1)[1]
        args.out.write_text(f"{before}<!-- several -->\n{table(result)}<!-- /several -->{after}")
    else:
        print(table(result), end="")


if __name__ == "__main__":
    main()
