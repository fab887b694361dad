"""Tests the command line tool `llm` with models in extra-openai-models.yaml.

usage: use_llm.py URL SOCKET TOOL_CALL
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import yaml

QUESTION = "What is the capital of Italy?"
# A text completion requires the model's own prompt format.
TEXT = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
MODEL = {"model_name": "hearth-demo-q8_0", "api_base": f"{sys.argv[1]}/v1", "supports_schema": True}
MODELS = [
    {"model_id": "hearth", **MODEL},
    {"model_id": "hearth-text", "completion": True, **MODEL},
    {"model_id": "hearth-responses", "responses": True, **MODEL},
]


def llm(*args, fails=False):
    command = [sys.executable, "-m", "llm", *args]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (ran.returncode != 0) == fails, ran
    return ran.stderr if fails else ran.stdout


with tempfile.TemporaryDirectory() as folder:
    os.environ["LLM_USER_PATH"] = folder
    (pathlib.Path(folder) / "extra-openai-models.yaml").write_text(yaml.safe_dump(MODELS), encoding="utf-8")
    listed = llm("models")
    assert all(model["model_id"] in listed for model in MODELS), listed
    for model in ("hearth", "hearth-responses"):
        for how in ([], ["--no-stream"]):
            said = llm("-m", model, *how, "-o", "temperature", "0", QUESTION)
            assert "Rome" in said, said
    # The conversation so far is sent with the next question.
    assert llm("-m", "hearth", "--continue", "And of France?").strip()
    # If a schema allows additional properties, a small model does not stop writing.
    digit = {"type": "integer", "minimum": 0, "maximum": 9}
    schema = {"type": "object", "properties": {"n": digit}, "required": ["n"], "additionalProperties": False}
    number = json.loads(llm("-m", "hearth", "--schema", json.dumps(schema), QUESTION))
    assert isinstance(number["n"], int), number
    for how in ([], ["--no-stream"]):
        assert "Rome" in llm("-m", "hearth-text", *how, "-o", "temperature", "0", TEXT)
    wrong = [{"model_id": "nope", **MODEL, "model_name": "nope"}]
    (pathlib.Path(folder) / "extra-openai-models.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    assert "there is no model" in llm("-m", "nope", QUESTION, fails=True)
print("ok")
