"""Writes the table of docs/models.md: the demo model, and what `train.py --qat`
made of it, in several types, measured by `hearthctl evaluate`:

    python train.py --qat hearth-demo-f16.gguf --out /tmp/qat
    python quantization.py --trained /tmp/qat --work /tmp/qat/table --doc ../../docs/models.md

No number in the table is typed by hand. It stands between two markers in the document.
"""

import argparse
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import gguf

import data

HERE = Path(__file__).parent
BEGIN, END = "<!-- quantization.py: begin -->\n", "<!-- quantization.py: end -->\n"
# Of each set of weights: which types, and whether with an importance matrix.
MODELS = {
    "demo": ("as shipped", [("Q8_0", False), ("Q4_K_M", False), ("Q4_K_M", True), ("Q4_0", False), ("Q4_0", True)]),
    "control": ("trained on, plainly", [("Q4_0", False), ("Q4_0", True)]),
    "qat": ("trained on, aware of Q4_0", [("Q4_0", False), ("Q4_0", True)]),
}


class Hearthctl:
    """Runs it in the folder of the work, and keeps what was run."""

    def __init__(self, binary, work):
        self.binary, self.work, self.commands = binary, work, []

    def __call__(self, *words):
        # A second thread only waits for the first, with a model this small.
        words = [*words, "--threads", "1"]
        self.commands.append(" ".join(["hearthctl", *words]))
        print(self.commands[-1], flush=True)
        done = subprocess.run([self.binary, *words, "--json"], cwd=self.work, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"it failed: {done.stdout.strip()}")
        return json.loads(done.stdout)


def stored(path):
    """How the file's matrices are stored, as `28 Q4_0, 1 Q6_K`."""
    tensors = gguf.GGUFReader(path).tensors
    kinds = Counter(t.tensor_type.name for t in tensors if len(t.shape) > 1)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def row(work, weights, kind, weighed, judged):
    """A line of the table, from an entry of `hearthctl evaluate --json`."""
    text, accuracy, divergence = judged["text"], judged["accuracy"], judged["text"]["divergence"]
    cells = [weights, kind, "yes" if weighed else "", stored(work / judged["path"]),
             f"{judged['file_bytes'] / 1e6:.2f} MB",
             f"{text['perplexity']:.4f} ± {text['perplexity_error']:.4f}"]
    if divergence:
        cells += [f"{divergence['mean']:.5f} ± {divergence['error']:.5f}",
                  f"{100 * divergence['agreement']:.2f} ± {100 * divergence['agreement_error']:.2f} %"]
    else:
        cells += ["(reference)", ""]
    cells.append(f"{accuracy['right']}/{accuracy['of']}")
    return "| " + " | ".join(cells) + " |"


def cost(whole, rounded):
    """By how much a file's perplexity is above that of the F16 file it came from."""
    return f"{100 * (rounded['text']['perplexity'] / whole['text']['perplexity'] - 1):+.2f} %"


def table(hearthctl, names):
    """Quantizes and measures these of MODELS; returns the table's lines."""
    lines = ["| weights | type | importance matrix | matrices | file | perplexity | KL divergence | same token | held-out questions |",
             "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    costs = []
    for name in names:
        weights, kinds = MODELS[name]
        whole = f"{name}-f16.gguf"
        matrix = f"{name}.imatrix.gguf"
        hearthctl("imatrix", whole, "calibration.txt", "--output", matrix)
        rows = {whole: ("F16", False)}
        for kind, weighed in kinds:
            file = f"{name}-{kind.lower()}{'-imatrix' if weighed else ''}.gguf"
            hearthctl("quantize", whole, file, "--type", kind, *(["--imatrix", matrix] if weighed else []))
            rows[file] = (kind, weighed)
        result = hearthctl("evaluate", *rows, "--reference", whole, "--text", "heldout.txt",
                           "--questions", "heldout.jsonl", "--runs", "0")
        judged = {Path(m["path"]).name: m for m in result["models"]}
        costs.append(f"{cost(judged[whole], judged[f'{name}-q4_0.gguf'])} ({weights})")
        lines += [row(hearthctl.work, weights, *rows[file], judged[file]) for file in rows]
    scored = result["models"][0]["text"]
    lines += ["", "Rounding to Q4_0 without an importance matrix changes the perplexity by", f"{', '.join(costs)}.",
              f"{scored['scored_tokens']} tokens scored, in pieces of {scored['chunk_tokens']}. What was run:", ""]
    return lines + [f"    {command}" for command in hearthctl.commands]


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    args.add_argument("--trained", type=Path, help="folder that train.py --qat wrote; the shipped weights only, if left out")
    args.add_argument("--work", type=Path, required=True, help="a new folder for all files")
    args.add_argument("--doc", type=Path, required=True, help="the document whose table is written")
    args.add_argument("--hearthctl", default="hearthctl", help="the command, if not in the path")
    args = args.parse_args()
    binary = shutil.which(args.hearthctl)
    if not binary:
        raise SystemExit(f"there is no {args.hearthctl}: build it, and give it by --hearthctl")
    document = args.doc.read_text()
    if [document.count(marker) for marker in (BEGIN, END)] != [1, 1]:
        raise SystemExit(f"{args.doc} lacks the markers {BEGIN.strip()} and {END.strip()}")
    if args.work.exists():
        raise SystemExit(f"{args.work} is there already: remove it, or take another folder")
    args.work.mkdir(parents=True)
    shutil.copy(HERE / "hearth-demo-f16.gguf", args.work / "demo-f16.gguf")
    shutil.copy(HERE / "heldout.jsonl", args.work)
    names = list(MODELS) if args.trained else ["demo"]
    for name in names[1:]:
        shutil.copy(args.trained / f"{name}-f16.gguf", args.work)
    for name, file in (("held-out", "heldout.txt"), ("calibration", "calibration.txt")):
        (args.work / file).write_text(data.TEXTS[name]())
    lines = table(Hearthctl(Path(binary).resolve(), args.work), names)
    before, after = document.split(BEGIN)[0], document.split(END)[1]
    args.doc.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + after)


if __name__ == "__main__":
    main()
