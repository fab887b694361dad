"""The servers that are compared: how each is started, asked and stopped."""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONTEXT = 4096
# A busy board loads a model for minutes.
PATIENCE = 600


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
