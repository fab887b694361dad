"""LoRA adapters in llama-server: the answers that crates/hearth-engine/tests/parity/lora.rs
compares Hearthd's with. The adapters have random weights and are made here."""

import subprocess

# As in lora.rs.
KIND = "short"
SCALES = (0.5, 1.0, 0.0)


def make(target, model, folder):
    """Writes the adapter of a model, anew for this build."""
    path = folder / f"{model.stem}.lora.gguf"
    engine = target / "release/hearth-engine"
    subprocess.run([engine, "make-adapter", "--base", model, "--out", path], check=True)
    return path


def ask(server, entries, text_of):
    """The answers of a started server with the adapter, by prompt and scale."""
    answers = {}
    for entry in entries:
        if entry["kind"] != KIND:
            continue
        for scale in SCALES:
            lora = {"lora": [{"id": 0, "scale": scale}]}
            answers[entry["name"], scale] = server.complete(text_of(entry), lora)
    return answers


def compare(all_own, answers, compare_one):
    """The comparison of each answer of lora.rs with llama-server's. Quantized models round
    activations to eight bits: a last digit that differs between two builds flips some of them,
    and random weights amplify that, so that probabilities differ much or not at all. What counts
    is that the prompt is the same and that the library gives the same bits; how many texts are
    llama-server's is reported."""
    results = []
    for own in all_own:
        found = compare_one(own, answers[own["name"], own["scale"]]) | {"scale": own["scale"]}
        good = found["prompt_equal"]
        results.append(found | {"server": "equal" if good else "differs"})
    return results


def lines(results):
    """The report of all models: a sentence, and what differs."""
    everything = [r for found in results.values() for r in found]
    count = len(everything)
    bits = sum(r["library"] == "equal" for r in everything)
    same = sum(r["text"] == "same" for r in everything)
    ties = sum(r["text"].startswith("tie") for r in everything)
    scales = ", ".join(f"{scale:g}" for scale in SCALES)
    text = [
        "",
        f"With a LoRA adapter of random weights at the scales {scales} ({count} answers of "
        f"{len(results)} models): bits equal to the library's {bits} of {count}, text the same "
        f"as llama-server's {same} of {count}, ties {ties}.",
    ]
    for name, found in results.items():
        for r in found:
            if r["library"] != "equal" or r["server"] != "equal":
                text.append(f"- `{name}`, {r['name']}, scale {r['scale']:g}: library {r['library']}, {r['text']}.")
    return text
