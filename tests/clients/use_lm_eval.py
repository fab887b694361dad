"""Runs lm-evaluation-harness against the daemon with a real model and three small tasks of
its own (lm_eval/), one for each kind of request that it sends.

usage: use_lm_eval.py URL MODEL FILE
"""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import gguf
import tokenizers
import transformers

TASKS = pathlib.Path(__file__).parent / "lm_eval"
# How the vocabulary of Qwen 2.5 divides a text into words.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXT = "The capital of Italy is Rome, isn't it?\n\n  123"


def post(path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def tokenizer(file, folder):
    """Stores the tokenizer of a model file in the form that the harness loads."""
    fields = gguf.GGUFReader(file).fields
    tokens, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    words = tokenizers.pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated")
    pieces = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([words, pieces])
    bpe.decoder = tokenizers.decoders.ByteLevel()
    end = tokens[fields["tokenizer.ggml.eos_token_id"].contents()]
    transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=end).save_pretrained(folder)
    assert bpe.encode(TEXT).ids == post("/tokenize", {"content": TEXT, "model": model})["tokens"]


def evaluate(folder, tasks, batch=1, **options):
    """The results of the tasks, and the scores of the choices of the first one."""
    arguments = {
        "model": model, "base_url": f"{url}/v1/completions", "tokenizer": folder,
        "tokenizer_backend": "huggingface", **options,
    }
    output = folder / "results"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "lm_eval", "--model", "local-completions", "--include_path", folder / "tasks"]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in arguments.items())]
    command += ["--tasks", ",".join(tasks), "--output_path", output, "--log_samples", "--batch_size", str(batch)]
    ran = subprocess.run(command, cwd=folder / "tasks", env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    [results] = output.rglob("results_*.json")
    results = json.loads(results.read_text())["results"]
    [samples] = output.rglob("samples_hearth_capitals_*.jsonl")
    samples = [json.loads(line) for line in samples.read_text().splitlines()]
    shutil.rmtree(output)
    return results, [[float(score) for [score, _] in sample["filtered_resps"]] for sample in samples]


url, model, file = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    shutil.copytree(TASKS, folder / "tasks")
    tokenizer(file, folder)
    results, scores = evaluate(folder, ["hearth_capitals", "hearth_generated", "hearth_rolling"])
    assert results["hearth_capitals"]["acc,none"] >= 0.75, results
    assert results["hearth_generated"]["exact_match,word"] >= 0.75, results
    # 256 is a model that knows nothing, 1 one that knows the texts.
    assert 1 < results["hearth_rolling"]["byte_perplexity,none"] < 3, results
    assert len(scores) == 5 and all(score < 0 for choices in scores for score in choices), scores
    # As text instead of token numbers, several prompts in one request.
    _, batched = evaluate(folder, ["hearth_capitals"], batch=4, tokenized_requests=False)
    for first, second in zip(scores, batched, strict=True):
        assert all(math.isclose(a, b, abs_tol=0.2) for a, b in zip(first, second, strict=True)), (first, second)
print("ok")
