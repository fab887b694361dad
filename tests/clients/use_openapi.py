"""Sends valid and invalid requests that Schemathesis generates from the description of the
endpoints (docs/api/openapi.yaml). Every response must match the description.

usage: use_openapi.py URL FOLDER MODEL
"""

import json
import os
import pathlib
import subprocess
import sys

import schemathesis
import yaml

API = pathlib.Path(__file__).parents[2] / "docs/api"
# Random requests per endpoint, in addition to those derived from the description.
EXAMPLES = 60
CONFIG = f"""
continue-on-failure = true
[phases.stateful]
enabled = false
[phases.examples]
fill-missing = true
[generation]
mode = "all"
max-examples = {EXAMPLES}
deterministic = true
database = "none"
allow-x00 = true
[checks]
enabled = true
# A schema cannot say all that is refused: a grammar may be none, a model not there.
positive_data_acceptance.enabled = false
# Too much at once is no defect.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 529]
"""
# A random name is never that of an imported model, and the model is no reranker and takes no
# sounds.
RERANK = ["/v1/rerank", "/v1/reranking", "/rerank", "/reranking"]
NEVER = ["DELETE /api/delete", "POST /api/push", "HEAD /api/blobs/{digest}", "POST /api/blobs/{digest}", "POST /api/create", "POST /v1/audio/transcriptions", *(f"POST {path}" for path in RERANK)]
NDJSON = "application/x-ndjson"
HERE = "#/components/schemas/"


@schemathesis.deserializer(NDJSON)
def lines(_, response):
    """Decodes a stream of JSON lines as a list."""
    return [json.loads(line) for line in response.content.splitlines()]


def strict(schema):
    """Makes properties that are not described a failure."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            strict(part)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)


def without_ignored(schema):
    """Removes fields that may have any value: time spent on these finds nothing, and the tests
    of compatibility have them."""
    if isinstance(schema, dict):
        for name in [name for name, of in schema.get("properties", {}).items() if of.get("$ref", "").endswith("#/Ignored")]:
            del schema["properties"][name]
        for part in schema.values():
            without_ignored(part)
    elif isinstance(schema, list):
        for part in schema:
            without_ignored(part)


def relocate(node, places):
    """Changes references to the places of the schemas in the combined file."""
    if isinstance(node, dict):
        file, at, name = node.get("$ref", "").partition("#/")
        if at and not name.startswith("components/"):
            assert name in places[file], node
            node["$ref"] = HERE + name
        for part in node.values():
            relocate(part, places)
    elif isinstance(node, list):
        for part in node:
            relocate(part, places)


def description(model):
    """The description in one file, as strict as possible, with the name of a model."""
    read = lambda name: yaml.safe_load((API / name).read_text(encoding="utf-8"))
    whole = read("openapi.yaml")
    files = {file.name: read(f"openapi/{file.name}") for file in sorted((API / "openapi").glob("*.yaml"))}
    everything = {name: schema for schemas in files.values() for name, schema in schemas.items()}
    assert len(everything) == sum(map(len, files.values()))
    for name, schemas in files.items():
        if name.endswith("answers.yaml"):
            strict(schemas)
        without_ignored(schemas)
    requests = files["requests.yaml"]
    for schema in ("Model", "ModelId"):
        requests[schema]["anyOf"].insert(0, {"const": model})
    for schema, names in (("OllamaModelRequest", ["model", "name"]), ("OllamaCopyRequest", ["source"])):
        for name in names:
            said = requests[schema]["properties"]
            said[name] = {"anyOf": [{"const": model}, said[name]]}
    for path in whole["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("200", {}).get("content", {})
            if NDJSON in content:
                content[NDJSON]["schema"] = {"type": "array", "minItems": 1, "items": content[NDJSON]["schema"]}
    relocate(whole, {f"openapi/{name}": schemas for name, schemas in files.items()})
    for schemas in files.values():
        relocate(schemas, files | {"": schemas})
    whole["components"]["schemas"] = everything
    return whole


def main(url, folder, model):
    (folder / "openapi.json").write_text(json.dumps(description(model)), encoding="utf-8")
    (folder / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={folder / 'schemathesis.toml'}", "run"]
    command += ["--url", url, "--no-color", "--report=json", f"--report-json-path={folder / 'report.json'}"]
    # Schemathesis imports this file for its deserializer of streams.
    here = {"SCHEMATHESIS_HOOKS": "use_openapi", "PYTHONPATH": str(pathlib.Path(__file__).parent)}
    ran = subprocess.run(
        [*command, str(folder / "openapi.json")],
        cwd=folder, env=os.environ | here | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["complete"] and not report["failures"] and not report["errors"], said
    assert report["test_cases"]["generated"] > 2000, said
    for operation, phases in report["valid_rates"].items():
        assert operation in NEVER or any(phase["accepted"] for phase in phases.values()), f"{operation} never worked: {said}"
    assert not report["warnings"]["missing_deserializer"], said


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3])
    print("ok")
