"""Hearthd beside others; benches/peers/run.sh says how to call it."""

import argparse
import datetime
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONTEXT = 4096
# A busy board loads a model for minutes.
PATIENCE = 600
# When a long system prompt is asked under.
COLUMNS = ("first time", "second turn", "new talk", "after a restart")


class Failed(Exception):
    """What one of the servers does not do, for the table."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Peer:
    """One server: how it is started, asked and stopped."""

    api = "openai"
    model = "peers"

    def __init__(self, bench, name):
        self.bench, self.name, self.process = bench, name, None
        # Of the last question, where the server says so.
        self.prompt_tokens = None
        self.folder = bench.folder / name
        self.folder.mkdir()

    def command(self, model):
        """What starts it, where, and with what more in its environment."""
        raise NotImplementedError

    def version(self):
        raise NotImplementedError

    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def start(self, model):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words, cwd, environment = self.command(model)
        self.log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [str(word) for word in words],
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        began = time.monotonic()
        while True:
            try:
                self.prepare(model)
                self.ask([{"role": "user", "content": "Hello"}], 1)
                return
            except (OSError, http.client.HTTPException, Failed) as error:
                if self.process.poll() is not None:
                    raise Failed("does not start: " + self.last_words()) from error
                if time.monotonic() - began > PATIENCE:
                    raise Failed(f"does not answer: {error}") from error
                time.sleep(0.2)

    def prepare(self, model):
        """What has to be done once it listens."""

    def stop(self):
        if self.process is None:
            return
        for kill in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, kill) if kill == signal.SIGKILL else self.process.send_signal(kill)
                self.process.wait(30)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        self.process = None
        self.log.close()

    def last_words(self):
        lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        # Folders of this computer say nothing on another.
        return re.sub(r"/[^ '\"]*/", "", lines[-1]).strip()[:160] if lines else "it says nothing"

    def ask(self, messages, tokens):
        """Seconds to the first text, and the text."""
        body = {"model": self.model, "messages": messages, "stream": True}
        if self.api == "ollama":
            path, body["options"] = "/api/chat", {"temperature": 0, "num_predict": tokens}
        else:
            path = "/v1/chat/completions"
            body |= {"temperature": 0, "max_tokens": tokens, "ignore_eos": True}
            body["stream_options"] = {"include_usage": True}
        began = time.monotonic()
        connection = self.connection()
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise Failed(f"status {response.status}: {response.read(200)!r}")
            first, text = None, ""
            for line in response:
                line = line.decode().strip().removeprefix("data:").strip()
                if not line.startswith("{"):
                    continue
                event = json.loads(line)
                if event.get("error"):
                    error = event["error"]
                    raise Failed(error["message"] if isinstance(error, dict) else str(error))
                usage = event.get("usage") or {}
                self.prompt_tokens = usage.get("prompt_tokens", self.prompt_tokens)
                if self.api == "ollama":
                    more = event.get("message", {}).get("content")
                else:
                    choices = event.get("choices") or [{}]
                    more = choices[0].get("delta", {}).get("content")
                if more:
                    first = first if first is not None else time.monotonic() - began
                    text += more
            # One that writes no text has had time for one token all the same.
            return (first if first is not None else time.monotonic() - began), text
        finally:
            connection.close()


class Hearthd(Peer):
    def command(self, model):
        script = HERE / "serve_hearthd.sh"
        return [script, self.folder, model, self.bench.threads, CONTEXT], ROOT, {}

    def version(self):
        return said([self.bench.release / "hearthctl", "--version"]).split()[-1]

    def address(self):
        return f"unix:{self.folder}/hearthd.sock"

    def connection(self):
        return UnixConnection(f"{self.folder}/hearthd.sock")


class LlamaServer(Peer):
    """Debian's, out of its unpacked packages: their own loader and libraries, and as
    working folder the one with the CPU variants, where llama.cpp looks for them."""

    def words(self):
        root = self.bench.debian
        libraries = next(root.glob("usr/lib/*/libllama.so.0")).parent
        loader = next(libraries.glob("ld-linux-*"))
        variants = next(libraries.glob("ggml/backends*"))
        path = f"{libraries}:{libraries}/llama"
        return [loader, "--library-path", path, root / "usr/bin/llama-server"], variants

    def command(self, model):
        words, variants = self.words()
        return words + self.options(model), variants, {}

    def options(self, model):
        threads = ["--threads", self.bench.threads, "--threads-batch", self.bench.threads]
        there = ["--host", "127.0.0.1", "--port", self.port]
        return ["--model", model, "--ctx-size", CONTEXT, "--parallel", 1, *threads, *there]

    def version(self):
        words, variants = self.words()
        done = subprocess.run(
            [str(w) for w in words] + ["--version"], cwd=variants, capture_output=True, text=True
        )
        lines = (done.stdout + done.stderr).splitlines()
        return next((l.split(":", 1)[1].strip() for l in lines if l.startswith("version")), "?")


class Llamafile(LlamaServer):
    def words(self):
        # An executable of this form needs a shell where binfmt_misc does not know it.
        return ["sh", shutil.which("llamafile"), "--server", "--nobrowser"], ROOT


class LlamaCppPython(Peer):
    package = "llama-cpp-python"

    def command(self, model):
        threads = ["--n_threads", self.bench.threads, "--n_threads_batch", self.bench.threads]
        there = ["--host", "127.0.0.1", "--port", self.port]
        words = [self.bench.python, "-m", "llama_cpp.server", "--model", model]
        words += ["--n_ctx", CONTEXT, *threads, *there]
        if not self.bench.has_template(model):
            words += ["--chat_format", "chatml"]
        return words, ROOT, {}

    def version(self):
        script = f"import importlib.metadata as m; print(m.version('{self.package}'))"
        return said([self.bench.python, "-c", script])


class InProcess(LlamaCppPython):
    def __init__(self, bench, name, package):
        super().__init__(bench, name)
        self.package = package

    def command(self, model):
        script = HERE / "serve_python.py"
        words = [self.bench.python, script, self.name, model, self.port]
        return words + [self.bench.threads, CONTEXT], ROOT, {}


class Ollama(Peer):
    api = "ollama"

    def environment(self):
        there = {"OLLAMA_HOST": f"127.0.0.1:{self.port}", "OLLAMA_KEEP_ALIVE": "-1"}
        return {**there, "OLLAMA_MODELS": str(self.folder / "models")}

    def command(self, model):
        self.made = False
        return ["ollama", "serve"], ROOT, self.environment()

    def prepare(self, model):
        if self.made:
            return
        file = self.folder / "Modelfile"
        file.write_text(
            f"FROM {model}\nPARAMETER num_thread {self.bench.threads}\nPARAMETER num_ctx {CONTEXT}\n"
        )
        done = subprocess.run(
            ["ollama", "create", self.model, "-f", str(file)],
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Failed(f"does not take the model: {done.stderr.strip()[-160:]}")
        self.made = True

    def version(self):
        return said(["ollama", "--version"]).split()[-1]


def said(words):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True).stdout.strip()


class Bench:
    def __init__(self, arguments, folder):
        self.threads = arguments.threads
        self.arguments = arguments
        self.folder = folder
        self.release = pathlib.Path(arguments.target) / "release"
        self.peers_folder = pathlib.Path(arguments.target) / "peers"
        self.python = self.peers_folder / "python/bin/python3"
        self.debian = next(self.peers_folder.glob("debian-*/usr/bin/llama-server"), None)
        self.debian = self.debian and self.debian.parent.parent.parent
        self.missing = {}
        self.tokens = None

    def peers(self):
        """Those that are there, Hearthd first; why the others are not goes to `missing`."""
        makers = {"hearthd": lambda: Hearthd(self, "hearthd")}
        if self.debian:
            makers["llama-server"] = lambda: LlamaServer(self, "llama-server")
        else:
            self.missing["llama-server"] = "Debian's packages could not be unpacked"
        for name, module, make in (
            ("llama-cpp-python", "llama_cpp", lambda: LlamaCppPython(self, "llama-cpp-python")),
            ("langchain", "llama_cpp", lambda: InProcess(self, "langchain", "langchain-community")),
            ("ctransformers", "ctransformers", lambda: InProcess(self, "ctransformers", "ctransformers")),
        ):
            if self.has_module(module):
                makers[name] = make
            else:
                self.missing[name] = f"{module} could not be set up here"
        for name, kind in (("ollama", Ollama), ("llamafile", Llamafile)):
            if shutil.which(name):
                makers[name] = lambda kind=kind, name=name: kind(self, name)
            else:
                self.missing[name] = "not found on PATH"
        only = self.arguments.only
        self.missing = {n: why for n, why in self.missing.items() if not only or n in only}
        return [make() for name, make in makers.items() if not only or name in only]

    def has_module(self, module):
        try:
            words = [str(self.python), "-c", f"import {module}"]
            return subprocess.run(words, capture_output=True).returncode == 0
        except OSError:
            return False

    def has_template(self, model):
        with open(model, "rb") as file:
            return b"tokenizer.chat_template" in file.read(64 << 20)

    def larger_models(self):
        if self.arguments.model:
            return [pathlib.Path(model).resolve() for model in self.arguments.model]
        path = self.peers_folder / "random-0.5b-q4_0.gguf"
        if not path.exists():
            part = path.with_suffix(".part")
            words = [self.release / "hearth-engine", "make-model", "--shape", "qwen2.5-0.5b"]
            subprocess.run([*words, "--type", "q4_0", "--out", part], check=True)
            part.rename(path)
        return [path]

    def study(self, model, peers, options):
        """`hearthctl bench study` on all of them at once."""
        running, failed = [], {}
        try:
            for peer in peers:
                note(f"{model.name}: starting {peer.name}")
                try:
                    peer.start(model)
                    running.append(peer)
                except Failed as error:
                    failed[peer.name] = str(error)
                    peer.stop()
            words = [self.release / "hearthctl", "bench", "study", "--json", *options]
            first, *others = running
            words += ["--name", first.name, "--api", first.api]
            where = first.address()
            if where.startswith("unix:"):
                words += ["--unix", where.removeprefix("unix:")]
            else:
                words += ["--endpoint", where]
            for peer in others:
                words += ["--against", f"{peer.name}={peer.address()},api={peer.api}"]
            note(f"{model.name}: hearthctl bench study {' '.join(map(str, options))}")
            done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True)
            document = json.loads(done.stdout.splitlines()[0])
            if "error" in document:
                sys.exit(f"peers: {document['error']['message']}")
            return document, failed
        finally:
            for peer in peers:
                peer.stop()

    def prefix(self, model, peers, runs, tokens):
        """Seconds to the first token under a system prompt that recurs, and how long the
        prompt was, in characters and in tokens of this model."""
        length = self.characters(model, peers[0], tokens)
        times = {peer.name: {column: [] for column in COLUMNS} for peer in peers}
        for run in range(runs):
            turn = run % len(peers)
            for peer in peers[turn:] + peers[:turn]:
                note(f"{model.name}: long system prompt, run {run + 1} of {runs}: {peer.name}")
                found = times[peer.name]
                try:
                    self.one_prefix(model, peer, found, f"{time.time_ns():x}"[::-1], length)
                except (OSError, Failed) as error:
                    found.setdefault("failed", str(error))
                finally:
                    peer.stop()
        return times, length

    def characters(self, model, peer, tokens):
        """How many characters of the prompt make so many tokens, by a short one."""
        try:
            peer.start(model)
            peer.ask([system_prompt("0", 400)], 1)
            return 400 * tokens // (peer.prompt_tokens or 100)
        finally:
            peer.stop()

    def one_prefix(self, model, peer, found, number, length):
        system = system_prompt(number, length)
        asked = lambda question: {"role": "user", "content": question}
        peer.start(model)
        seconds, answer = peer.ask([system, asked("Is the lamp in the hall on?")], 8)
        found["first time"].append(seconds)
        self.tokens = peer.prompt_tokens or self.tokens
        turns = [system, asked("Is the lamp in the hall on?")]
        turns += [{"role": "assistant", "content": answer}, asked("And in the kitchen?")]
        found["second turn"].append(peer.ask(turns, 8)[0])
        found["new talk"].append(peer.ask([system, asked("Who is at home?")], 8)[0])
        peer.stop()
        peer.start(model)
        found["after a restart"].append(peer.ask([system, asked("Is it dark?")], 8)[0])


def system_prompt(number, length):
    """One that begins as no other with another number."""
    filler = "The lamp in the hall is on, the one in the kitchen is off. "
    text = f"{number}: the house. " + filler * (length // len(filler) + 1)
    return {"role": "system", "content": text[:length]}


def note(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


def time_of(value):
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def study_table(document, failed, missing):
    lines = [
        "| | one prompt | three prompts | first token | tokens/s | tokens | CPU | memory, mean | peak |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for server in document["servers"]:
        one = server["forms"]["one_prompt"]["summary"]
        three = server["forms"]["three_prompts"]["summary"]
        if not one:
            failed[server["name"]] = server["failures"][0]["message"]
            continue
        cell = lambda form, key, show: show(form[key]["median"]) if key in form else "–"
        both = lambda form: f"{time_of(form['response_s']['median'])} ± {time_of(form['response_s']['deviation'])}"
        cells = [
            server["name"],
            both(one),
            both(three) if three else "–",
            cell(one, "first_token_s", time_of),
            cell(three, "tokens_per_s", lambda v: f"{v:.1f}"),
            cell(three, "tokens", lambda v: f"{v:.0f}"),
            cell(three, "cpu_percent", lambda v: f"{v:.0f} %"),
            cell(three, "memory_average_mib", lambda v: f"{v:.0f} MiB"),
            cell(three, "memory_peak_mib", lambda v: f"{v:.0f} MiB"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + reasons({**failed, **missing})


def prefix_table(times, missing):
    lines = [
        f"| | {' | '.join(COLUMNS)} | of the first time |",
        "|---|" + "--:|" * (len(COLUMNS) + 1),
    ]
    failed = {}
    for name, found in times.items():
        if not found["after a restart"]:
            failed[name] = found.get("failed", "?")
            continue
        medians = [statistics.median(found[column]) for column in COLUMNS]
        cells = [name, *map(time_of, medians), f"{medians[-1] / medians[0]:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + reasons({**failed, **missing})


def reasons(why):
    return [""] + [f"- {name}: {reason.replace('|', '/')}" for name, reason in why.items()] if why else []


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ", 1)[1]
    board = pathlib.Path("/proc/device-tree/model")
    return board.read_text().strip("\0") if board.exists() else platform.machine()


def put(text, file, mark="peers"):
    """Between the marks, and the file is replaced as a whole."""
    before, rest = file.read_text().split(f"<!-- {mark} -->\n", 1)
    after = rest.split(f"<!-- /{mark} -->", 1)[1]
    part = file.with_suffix(".part")
    part.write_text(f"{before}<!-- {mark} -->\n{text}\n<!-- /{mark} -->{after}")
    part.rename(file)


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/run.sh")
    parser.add_argument("--target", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", action="append")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--prefix", type=int, default=1600)
    parser.add_argument("--prefix-runs", type=int, default=3)
    parser.add_argument("--prefix-only", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--demo-only", action="store_true")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    mark = "prefix" if arguments.prefix_only else "peers"
    if arguments.out and f"<!-- {mark} -->\n" not in arguments.out.read_text():
        parser.error(f"{arguments.out} has no line <!-- {mark} -->")

    with tempfile.TemporaryDirectory(prefix="hearthd-peers.") as folder:
        bench = Bench(arguments, pathlib.Path(folder))
        peers = bench.peers()
        versions = ", ".join(f"{peer.name} {peer.version()}" for peer in peers)
        models = []
        if not arguments.prefix_only:
            models.append((ROOT / "packaging/demo-model/hearth-demo-q8_0.gguf", None))
        if not arguments.demo_only:
            models += [(model, arguments.tokens) for model in bench.larger_models()]
        results = {"date": datetime.date.today().isoformat(), "cpu": cpu(), "versions": versions}
        text = [
            f"{os.cpu_count()} × {cpu()}, {arguments.threads} compute thread(s), "
            f"{results['date']}: {versions}."
        ]
        for model, tokens in models:
            able, found = peers, {}
            if not arguments.prefix_only:
                options = ["--runs", arguments.runs, *(["--tokens", tokens] if tokens else [])]
                study, failed = bench.study(model, peers, options)
                length = f"answers of {tokens} tokens" if tokens else "answers of their own length"
                text += ["", f"`{model.name}`, {length}, medians of {arguments.runs} ± deviation:", ""]
                text += study_table(study, failed, bench.missing)
                able = [peer for peer in peers if peer.name not in failed]
                found = {"study": study, "failed": failed}
            times, characters = bench.prefix(model, able, arguments.prefix_runs, arguments.prefix)
            text += [
                "",
                f"`{model.name}`, time to the first token under a system prompt of {characters} "
                f"characters ({bench.tokens} tokens with the question), medians of "
                f"{arguments.prefix_runs}:",
                "",
                *prefix_table(times, {}),
            ]
            results[model.stem] = {**found, "prefix": times}
        (bench.peers_folder / "result.json").write_text(json.dumps(results, indent=1))
        note(f"as JSON: {bench.peers_folder / 'result.json'}")
        if arguments.out:
            put("\n".join(text), arguments.out, mark)
        else:
            print("\n".join(text))


if __name__ == "__main__":
    main()
