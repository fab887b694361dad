"""Real models in Hearthd and in llama.cpp: the same greedy answers?

Three ways to answer each prompt of prompts.json in crates/hearth-engine/tests/parity: Hearthd;
the library that it links, driven with nothing around it (parity.rs beside that folder,
log-probabilities equal to the bit); and the llama-server of a Linux distribution, another
version and build of llama.cpp, whose last digits differ.

usage: tests/models/parity.py [--out FILE] [MODEL]...
  MODEL        the beginning of a name in models.lock; all if left out
  --out FILE   write the tables between FILE's lines <!-- parity --> and <!-- /parity -->;
               else to standard output
Needs what `make test-models` sets up; as JSON: target/parity/result.json.
"""

import argparse
import datetime
import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "benches/peers"))
import adapters  # noqa: E402
import run as peers  # noqa: E402

# Tokens per answer, as in crates/hearth-engine/tests/parity.rs.
TOKENS = 24
# Tolerance for the first token's log-probability between builds.
FIRST_MAX = 0.01
# The engine's chunk size: the last digits of the results depend on it.
CHUNK = 128


class LlamaServer(peers.LlamaServer):
    """Computes as the engine does: one thread, the same batch size, no reuse. For a model
    with a sliding window, llama-server would end a batch before each checkpoint and order
    the cells of the window differently, which changes the order of the attention sums."""

    adapter = None

    def options(self, model):
        batch = ["--batch-size", CHUNK, "--ubatch-size", CHUNK]
        plain = ["--cache-ram", 0, "--ctx-checkpoints", 0, "--swa-full", "--jinja"]
        lora = ["--lora", self.adapter] if self.adapter else []
        return super().options(model) + batch + plain + lora

    def post(self, path, body):
        connection = self.connection()
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status != 200:
                raise peers.Failed(answer.get("error", {}).get("message", str(answer))[:200])
            return answer
        finally:
            connection.close()

    def complete(self, text, more={}):
        tokens = self.post("/tokenize", {"content": text, "add_special": True})["tokens"]
        body = {"prompt": text, "n_predict": TOKENS, "temperature": 0, "n_probs": 2} | more
        answer = self.post("/completion", body | {"cache_prompt": False, "return_tokens": True})
        ids, steps = answer["tokens"], answer["completion_probabilities"]
        if answer["stop_type"] == "eos" and len(ids) == answer["tokens_predicted"]:
            # The token that ended it is not part of the answer.
            ids = ids[:-1]
        return {
            "prompt": tokens,
            "text": answer["content"],
            "tokens": ids,
            "logprobs": aligned(ids, steps),
        }

    def chat(self, entry):
        """The prompt rendered from its messages, and the answer; or the error."""
        chat = {"messages": entry["messages"], "tools": entry.get("tools", [])}
        try:
            rendered = self.post("/apply-template", chat)["prompt"]
            options = {"max_tokens": TOKENS, "temperature": 0, "logprobs": True}
            answer = self.post("/v1/chat/completions", chat | options | {"cache_prompt": False})
        except peers.Failed as error:
            return None, {"failed": str(error)}
        return rendered, chat_answer(answer)


def aligned(ids, steps):
    """The log-probability of each token; None for those that the server omits, which are
    parts of characters."""
    found, at = [], 0
    for token in ids:
        is_it = at < len(steps) and steps[at]["id"] == token
        found.append(steps[at]["logprob"] if is_it else None)
        at += is_it
    return found


def chat_answer(answer):
    choice = answer["choices"][0]
    steps = (choice.get("logprobs") or {}).get("content") or []
    return {
        "prompt_tokens": answer["usage"]["prompt_tokens"],
        "content": choice["message"].get("content") or "",
        "tool_calls": [call["function"] for call in choice["message"].get("tool_calls") or []],
        "logprobs": [step["logprob"] for step in steps],
    }


def text_of(entry):
    """The prompt's text, built as in crates/hearth-engine/tests/parity/prompts.rs."""
    if "text" in entry:
        return entry["text"]
    begin = entry.get("from", 0)
    part = (ROOT / entry["file"]).read_text()[begin : begin + entry["characters"]]
    return part + entry["then"]


def ask_server(bench, model, entries, folder):
    """All entries of one model; the rendered chat prompts go into a file for Hearthd."""
    name = model.stem
    server = LlamaServer(bench, f"llama-server-{name}")
    answers, rendered = {}, {}
    server.start(model)
    try:
        for entry in entries:
            found = {}
            if "messages" in entry:
                text, found["chat"] = server.chat(entry)
                if text is None:
                    answers[entry["name"]] = found
                    continue
                rendered[entry["name"]] = text
            else:
                text = text_of(entry)
            answers[entry["name"]] = found | server.complete(text)
    finally:
        server.stop()
    (folder / f"{name}.rendered.json").write_text(json.dumps(rendered, ensure_ascii=False))
    return answers


def ask_with_adapter(bench, model, adapter, entries):
    """The answers with an adapter, which llama-server applies at the scale of each request."""
    server = LlamaServer(bench, f"llama-server-lora-{model.stem}")
    server.adapter = adapter
    server.start(model)
    try:
        return adapters.ask(server, entries, text_of)
    finally:
        server.stop()


def ask_hearthd(names, folder):
    """Runs the test, which compares with the library to the bit; returns whether it passed."""
    environment = {**os.environ, "HEARTH_PARITY": str(folder), "HEARTH_PARITY_MODELS": " ".join(names)}
    words = [os.environ.get("CARGO", "cargo"), "test", "--release", "--locked"]
    words += ["-p", "hearth-engine", "--test", "parity"]
    return subprocess.run(words, cwd=ROOT, env=environment, stdout=sys.stderr).returncode == 0


def compare(own, other):
    """Compares Hearthd's answer to one prompt with llama-server's."""
    result = {"name": own["name"], "kind": own["kind"], "library": own["difference"] or "equal"}
    if "prompt" not in other:
        return result | {"server": "refuses: " + other["chat"]["failed"]}
    hearthd, reference = own["hearthd"], own["reference"]
    result["prompt"] = len(hearthd["prompt"])
    result["prompt_equal"] = hearthd["prompt"] == other["prompt"]
    apart = [
        abs(mine - theirs) if theirs is not None else None
        for mine, theirs in zip(hearthd["logprobs"], other["logprobs"])
    ]
    if apart and apart[0] is not None:
        result["first"] = apart[0]
    same = 0
    ids = list(zip(reference["tokens"], other["tokens"]))
    while same < len(ids) and ids[same][0] == ids[same][1]:
        same += 1
    result["most"] = max((d for d in apart[:same] if d is not None), default=0.0)
    if hearthd["text"] == other["text"]:
        result["text"] = "same"
    elif same < len(ids):
        # The two tokens differ by less than the builds do: either may be selected.
        result["gap"] = reference["gaps"][same]
        near = result["gap"] <= 2 * result["most"]
        result["text"] = f"tie at token {same + 1}" if near else f"DIFFERS at token {same + 1}"
    else:
        result["text"] = "DIFFERS in length"
    first_good = "first" not in result or result["first"] <= FIRST_MAX
    text_good = not result["text"].startswith("DIFFERS")
    result["server"] = "equal" if result["prompt_equal"] and first_good and text_good else "differs"
    return result


def compare_chat(own, other):
    """The same for the chat that the prompt was rendered from; both servers may refuse it."""
    if own["chat"] is None:
        return None
    if own["chat"]["status"] != "200":
        return "Hearthd refuses: " + own["chat"]["answer"]["error"]["message"]
    if "failed" in other["chat"]:
        return "llama-server refuses: " + other["chat"]["failed"]
    mine, theirs = chat_answer(own["chat"]["answer"]), other["chat"]
    if mine["prompt_tokens"] != theirs["prompt_tokens"]:
        return f"{mine['prompt_tokens']} prompt tokens, llama-server {theirs['prompt_tokens']}"
    # The prompt rendered by llama-server, sent as text, must have a bit-identical result.
    if mine["logprobs"][:1] != own["hearthd"]["logprobs"][:1]:
        return "the rendered prompt is another"
    return "equal"


def row(name, results):
    """The table row of one model."""
    asked = [r for r in results if "text" in r]
    firsts = sorted(r["first"] for r in asked if "first" in r)
    chats = [r["chat"] for r in results if r["chat"] is not None]
    cells = [
        f"`{name}`",
        f"{sum(r['library'] == 'equal' for r in results)} of {len(results)}",
        f"{sum(r['prompt_equal'] for r in asked)} of {len(asked)}",
        f"{firsts[len(firsts) // 2]:.5f}",
        f"{firsts[-1]:.5f}",
        f"{max(r['most'] for r in asked):.5f}",
        f"{sum(r['text'] == 'same' for r in asked)} of {len(asked)}",
        f"{sum(r['text'].startswith('tie') for r in asked)}",
        f"{sum(c == 'equal' for c in chats)} of {len(chats)}",
    ]
    return "| " + " | ".join(cells) + " |"


def report(server, results, tuned):
    date = datetime.date.today().isoformat()
    text = [
        f"{peers.cpu()}, 1 compute thread, {date}; llama-server {server}; "
        f"{TOKENS} tokens an answer, natural logarithms.",
        "",
        "| | library: bits equal | prompt tokens equal | first token, median | most "
        "| any token, most | text same | ties | chats equal |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(row(name, found) for name, found in results.items()),
    ]
    odd = []
    for name, found in results.items():
        for r in found:
            what = [] if r["library"] == "equal" else [f"library: {r['library']}"]
            if r["server"] != "equal":
                what.append(f"llama-server: {r['server']}" + (f", {r['text']}" if "text" in r else ""))
            elif r["text"] != "same":
                what.append(f"{r['text']}: the next token is {r['gap']:.4f} below")
            if r["chat"] not in (None, "equal"):
                what.append(f"chat: {r['chat']}")
            odd += [f"- `{name}`, {r['name']}: {'; '.join(what)}."] if what else []
    return "\n".join(text + ([""] + odd if odd else []) + adapters.lines(tuned))


def main():
    parser = argparse.ArgumentParser(prog="tests/models/parity.py")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("model", nargs="*")
    arguments = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    folder = target / "parity"
    folder.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run([HERE / "fetch.sh", *arguments.model], stdout=subprocess.PIPE, text=True, check=True)
    models = [pathlib.Path(line) for line in fetched.stdout.splitlines()]
    entries = json.loads((ROOT / "crates/hearth-engine/tests/parity/prompts.json").read_text())
    with tempfile.TemporaryDirectory(prefix="parity.") as scratch:
        debian = target / "peers" / f"debian-{os.environ.get('DEBIAN_SUITE', 'forky')}"
        bench = types.SimpleNamespace(folder=pathlib.Path(scratch), debian=debian, threads=1)
        if not (debian / "usr/bin/llama-server").exists():
            sys.exit("parity: no llama-server: benches/peers/setup.sh llama-server says why")
        version = LlamaServer(bench, "version").version()
        theirs, adapted = {}, {}
        for model in models:
            peers.note(f"{model.name}: llama-server")
            theirs[model.stem] = ask_server(bench, model, entries, folder)
            adapter = adapters.make(target, model, folder)
            adapted[model.stem] = ask_with_adapter(bench, model, adapter, entries)
    peers.note("Hearthd and its library")
    bits_equal = ask_hearthd([model.name for model in models], folder)
    results = {}
    for name, answers in theirs.items():
        own = json.loads((folder / f"{name}.hearthd.json").read_text())
        results[name] = [
            compare(one, answers[one["name"]]) | {"chat": compare_chat(one, answers[one["name"]])}
            for one in own
        ]
    tuned = {
        name: adapters.compare(json.loads((folder / f"{name}.lora.json").read_text()), answers, compare)
        for name, answers in adapted.items()
    }
    found = {"llama-server": version, "models": results, "adapters": tuned}
    (folder / "result.json").write_text(json.dumps(found, indent=1))
    text = report(version, results, tuned)
    if arguments.out:
        peers.put(text, arguments.out, "parity")
    else:
        print(text)
    everything = [r for some in (results, tuned) for found in some.values() for r in found]
    if not bits_equal or any(r["server"] == "differs" for r in everything):
        sys.exit("parity: not all is equal: see above")


if __name__ == "__main__":
    try:
        main()
    except (peers.Failed, OSError, http.client.HTTPException) as error:
        sys.exit(f"parity: {error}")
