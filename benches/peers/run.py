"""Hearthd beside others; benches/peers/run.sh says how to call it."""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from report import COLUMNS, cpu, prefix_table, put, study_table
from servers import Failed, Hearthd, InProcess, LlamaCppPython, LlamaServer, Llamafile, Ollama

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


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
