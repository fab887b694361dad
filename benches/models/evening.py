"""An evening in a house: a voice assistant, a search index and a summary, in one memory.

Three clients at the same time, each with a model of its own: a person gives voice commands
(priority interactive, one every few seconds), documents are embedded in batches, and a long text
is summarized three times in the background. It is played on boards of several sizes under two
policies: several models in one memory budget, and one model at a time (`engine.models_max = 1`,
as Ollama behaves where two do not fit). The memory of the board is real: the daemon and its
engines run in a memory cgroup of that size, and the kernel's OOM killer would end them. They see
a /proc/meminfo that is written from what the cgroup uses.

usage: benches/models/evening.py [--memory MIB]... [--texts N] [--commands N] [--json FILE]
                                 [--out FILE]
  --memory MIB   size of a board; 4096, 2048 and 1024 if left out
  --texts N      texts that are embedded (2000)
  --commands N   voice commands (10)
  --json FILE    writes the results
  --out FILE     writes the table between FILE's lines <!-- evening --> and <!-- /evening -->;
                 else to standard output
Needs root, cgroups, the built executables in target/release (CARGO_TARGET_DIR), and the models of
tests/models (HEARTH_MODELS).
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
MODELS = pathlib.Path(os.environ.get("HEARTH_MODELS") or TARGET / "models").resolve()
CGROUPS = pathlib.Path("/sys/fs/cgroup/memory")
EMBEDDER = "all-minilm-l6-v2-f32"
# Voice and summary by the size of the board.
LARGE = ("qwen2.5-coder-0.5b-q4_k_m", "qwen2.5-coder-1.5b-q4_k_m")
SMALL = ("smollm2-135m-instruct-q4_1", "qwen2.5-coder-0.5b-q4_k_m")
POLICIES = {"one budget": 0, "one model": 1}
BATCH = 50
SUMMARIES = 3
PAUSE_S = 6
COMMANDS = ("Turn on the light in the kitchen.", "Is the garage door closed?", "Set the heating to 20.")
TEXT = (
    "The boiler in the cellar was serviced in May; the next service is due in two years. "
    "The heating curve was lowered by one step, and the pump now runs at its second speed. "
)


class Failed(Exception):
    pass


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=1200)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Board:
    """A memory cgroup, and the files of a board that has this much memory."""

    def __init__(self, folder, mib):
        self.meminfo = folder / "meminfo"
        self.bytes = mib << 20
        self.cgroup = CGROUPS / f"hearth-evening-{os.getpid()}"
        self.cgroup.mkdir()
        (self.cgroup / "memory.limit_in_bytes").write_text(str(self.bytes))
        self.stopped = threading.Event()
        self.file = self.meminfo.open("wb", buffering=0)
        self.least = self.bytes
        self.update()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def enter(self):
        (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))

    def update(self):
        stat = dict(line.split() for line in (self.cgroup / "memory.stat").read_text().splitlines())
        # Pages of files can be discarded: MemAvailable contains them.
        available = self.bytes - int(stat["total_rss"]) - int(stat["total_shmem"])
        self.least = min(self.least, available)
        available = max(available, 0)
        # Of one length, so that no reader sees half of it.
        text = f"MemTotal: {self.bytes >> 10:12} kB\nMemAvailable: {available >> 10:12} kB\n"
        self.file.seek(0)
        self.file.write(text.encode())

    def run(self):
        while not self.stopped.wait(0.02):
            self.update()

    def command(self, words):
        """The command in a mount namespace in which /proc/meminfo is the board's."""
        script = 'mount --bind "$1" /proc/meminfo && shift && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", self.meminfo, *words]

    def oom_kills(self):
        lines = (self.cgroup / "memory.oom_control").read_text().splitlines()
        return int(dict(line.split() for line in lines).get("oom_kill", 0))

    def close(self):
        self.stopped.set()
        self.thread.join()
        for _ in range(100):
            try:
                self.cgroup.rmdir()
                return
            except OSError:
                time.sleep(0.1)


class Daemon:
    def __init__(self, folder, board, models_max, engine=""):
        self.socket = folder / "hearthd.sock"
        self.log = folder / "log"
        models = folder / "models"
        models.mkdir()
        for name in {*LARGE, *SMALL, EMBEDDER}:
            (models / f"{name}.gguf").symlink_to(MODELS / f"{name}.gguf")
        config = folder / "hearthd.toml"
        paths = {
            "models": models,
            "models_packaged": folder / "none",
            "prompts": folder / "prompts",
            "tuning": folder / "tuning.json",
            "engine": TARGET / "release/hearth-engine",
        }
        config.write_text(
            f"[engine]\nmodels_max = {models_max}\n{engine}[dbus]\nenabled = false\n"
            f'[http]\nsocket = "{self.socket}"\n[paths]\n'
            + "".join(f'{key} = "{value}"\n' for key, value in paths.items())
        )
        self.process = subprocess.Popen(
            board.command([TARGET / "release/hearthd", "--config", config]),
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            preexec_fn=board.enter,
        )
        for _ in range(200):
            if self.socket.exists():
                return
            time.sleep(0.05)
        raise Failed(self.log.read_text())

    def post(self, path, body):
        connection = UnixConnection(self.socket)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise Failed(response.read().decode())
        return response

    def loads(self):
        return self.log.read_text().count("model loaded")

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def chat(daemon, model, text, priority, tokens, **more):
    """Times to the first token and to the end, in seconds."""
    began = time.monotonic()
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
        "priority": priority,
        "stream": True,
    } | more
    response = daemon.post("/v1/chat/completions", body)
    first = None
    for line in response:
        if b'"content":"' in line and first is None:
            first = time.monotonic() - began
        if b'"error"' in line:
            raise Failed(line.decode())
    return first or time.monotonic() - began, time.monotonic() - began


def evening(daemon, models, texts, commands):
    """Plays the three clients; the failures of each are counted."""
    voice, summary = models
    result = {"first_s": [], "refused": [], "embedding_s": 0.0, "summaries_s": 0.0}

    def client(play):
        try:
            play()
        except (Failed, OSError) as failure:
            result["refused"].append(str(failure))

    def speak():
        for n in range(commands):
            first, took = chat(daemon, voice, COMMANDS[n % len(COMMANDS)], "interactive", 16)
            result["first_s"].append(first)
            time.sleep(max(0.0, PAUSE_S - took))

    def embed():
        began = time.monotonic()
        for at in range(0, texts, BATCH):
            batch = [f"{n}. {TEXT}" for n in range(at, min(at + BATCH, texts))]
            daemon.post("/v1/embeddings", {"model": EMBEDDER, "input": batch}).read()
        result["embedding_s"] = time.monotonic() - began

    def summarize():
        began = time.monotonic()
        for n in range(SUMMARIES):
            text = f"Summary {n}, in a few sentences:\n" + TEXT * 8
            chat(daemon, summary, text, "background", 48)
        result["summaries_s"] = time.monotonic() - began

    plays = [lambda: client(speak), lambda: client(embed), lambda: client(summarize)]
    threads = [threading.Thread(target=play) for play in plays]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result["all_s"] = time.monotonic() - began
    return result


def run(mib, policy, texts, commands):
    # What is read from the files is charged to the board, as after its start.
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="evening."))
    board = Board(folder, mib)
    daemon = None
    try:
        daemon = Daemon(folder, board, POLICIES[policy])
        models = SMALL if mib < 2000 else LARGE
        result = evening(daemon, models, texts, commands)
        result |= {"loads": daemon.loads(), "oom_kills": board.oom_kills()}
        result |= {"memory_mib": mib, "policy": policy, "least_available_mib": board.least >> 20}
        crashes = daemon.log.read_text().count("ended unexpectedly")
        return result | {"crashes": crashes}
    finally:
        if daemon:
            daemon.close()
        board.close()
        if os.environ.get("EVENING_KEEP"):
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)


def table(results):
    lines = [
        "| Memory | Policy | Loads | First word of a command, median (longest) "
        "| 2,000 texts embedded | Summaries | Refused | OOM kills |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        first = r["first_s"] or [float("nan")]
        lines.append(
            f"| {r['memory_mib'] / 1024:g} GiB | {r['policy']} | {r['loads']} "
            f"| {statistics.median(first):.2f} s ({max(first):.1f} s) | {r['embedding_s']:.0f} s "
            f"| {r['summaries_s']:.0f} s | {len(r['refused'])} | {r['oom_kills']} |"
        )
    return "\n".join(lines).replace("2,000", f"{results[0]['texts']:,}") + "\n"


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\nNeeds")[0])
    parser.add_argument("--memory", type=int, action="append")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--commands", type=int, default=10)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    results = []
    for mib in args.memory or [4096, 2048, 1024]:
        for policy in POLICIES:
            result = run(mib, policy, args.texts, args.commands) | {"texts": args.texts}
            for refusal in result["refused"]:
                print(f"{mib} MiB, {policy}: {refusal}", file=sys.stderr)
            print(json.dumps({k: v for k, v in result.items() if k != "refused"}), file=sys.stderr)
            results.append(result)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    if args.out:
        text = args.out.read_text()
        before, rest = text.split("<!-- evening -->\n", 1)
        after = rest.split("<!-- /evening -->", 1)[1]
        marked = f"<!-- evening -->\n{table(results)}<!-- /evening -->"
        args.out.write_text(before + marked + after)
    else:
        print(table(results), end="")


if __name__ == "__main__":
    main()
