"""Makes the table of compatibility in docs/api/http.md from the markers `proves!` in the
Rust tests. Every field that docs/api/openapi.yaml describes must have a marker, and every
marker must name a field that is described.

usage: compatibility.py [--update]
"""

import collections
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).parents[2]
OPENAPI = ROOT / "docs/api/openapi.yaml"
TEXT = r'"(?:[^"\\]|\\[\s\S])*"'
ARGUMENT = rf"(?:{TEXT}|[A-Z_]+)"
MARKER = re.compile(rf"proves!\(\s*({ARGUMENT})\s*,\s*({ARGUMENT})\s*(?:,\s*({TEXT})\s*)?,?\s*\)")
CONSTANT = re.compile(rf"const ([A-Z_]+): &str\s*=\s*({TEXT});")
TEST = re.compile(r"#\[(?:tokio::)?test[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)\(")
FUNCTION = re.compile(r"\bfn (\w+)\s*[(<]")
BEGIN, END = "<!-- compatibility: generated -->", "<!-- end of compatibility -->"
# Objects whose fields are listed one by one.
OBJECTS = ("options", "parameters")
SAMPLERS = "[samplers](#sampling)"
APIS = ("OpenAI", "Anthropic", "Ollama", "llama.cpp", "Hearthd")
WORKS, NONE, REFUSED = "works", "no effect", "refused"
Proof = collections.namedtuple("Proof", "file test remark")


class Description:
    """The endpoints and their fields, from the files of OpenAPI."""

    def __init__(self):
        self.files = {}
        self.api, self.fields = {}, {}
        for path, methods in self.load(OPENAPI)["paths"].items():
            for method, operation in methods.items():
                endpoint = f"{method.upper()} {path}"
                self.api[endpoint] = operation["tags"][0]
                self.fields[endpoint] = self.of(operation)
        samplers = self.properties(*self.resolve({"$ref": "openapi/requests.yaml#/Samplers"}, OPENAPI))
        self.samplers = {*samplers, "top_k", "repeat_last_n", "mirostat", "seed"}

    def load(self, file):
        if file not in self.files:
            self.files[file] = yaml.safe_load(file.read_text(encoding="utf-8"))
        return self.files[file]

    def resolve(self, schema, file):
        while "$ref" in schema:
            place, _, names = schema["$ref"].partition("#")
            file = (file.parent / place) if place else file
            schema = self.load(file)
            for name in names.strip("/").split("/"):
                schema = schema[name]
        return schema, file

    def properties(self, schema, file):
        schema, file = self.resolve(schema, file)
        # Its own fields first, those of many endpoints after them.
        found = {name: (of, file) for name, of in schema.get("properties", {}).items()}
        for part in schema.get("allOf", []) + schema.get("anyOf", []):
            found = found | {name: of for name, of in self.properties(part, file).items() if name not in found}
        return found

    def of(self, operation):
        fields = []
        body, _ = self.resolve(operation.get("requestBody", {}), OPENAPI)
        for content in body.get("content", {}).values():
            for name, where in self.properties(content["schema"], OPENAPI).items():
                within = self.properties(*where) if name in OBJECTS else {}
                fields += [f"{name}.{inner}" for inner in within] or [name]
        return fields + [self.resolve(of, OPENAPI)[0]["name"] for of in operation.get("parameters", [])]


def unquoted(text):
    """The value of a string literal of Rust."""
    return re.sub(r"\\\n\s*", "", text[1:-1]).replace('\\"', '"')


def markers():
    """Endpoint, field and proof of each marker in the tests."""
    for file in sorted((ROOT / "tests").rglob("*.rs")):
        source = file.read_text(encoding="utf-8")
        constants = {name: unquoted(text) for name, text in CONSTANT.findall(source)}
        tests = {match.start(1): match[1] for match in TEST.finditer(source)}
        functions = [match.start(1) for match in FUNCTION.finditer(source)]
        for match in MARKER.finditer(source):
            within = max((at for at in functions if at < match.start()), default=None)
            name = file.relative_to(ROOT)
            assert within in tests, f"{name}: {match[0]} is in no test"
            endpoints, fields = (unquoted(a) if a[0] == '"' else constants[a] for a in match.groups()[:2])
            proof = Proof(str(name), tests[within], unquoted(match[3]) if match[3] else WORKS)
            for endpoint in endpoints.split(", "):
                yield from ((endpoint, field, proof) for field in fields.split())


def proofs(described):
    """The proofs of each field of each endpoint; all that is wrong is reported at once."""
    found, wrong = collections.defaultdict(list), []
    for endpoint, field, proof in markers():
        found[endpoint, field].append(proof)
        if field not in described.fields.get(endpoint, ()):
            wrong.append(f"{proof.file}: {proof.test}: {endpoint} has no field {field} in openapi.yaml")
        if proof.remark != WORKS and proof.remark != NONE and not proof.remark.startswith(REFUSED + ": "):
            wrong.append(f"{proof.file}: {proof.test}: unknown remark {proof.remark!r}")
    for endpoint, fields in described.fields.items():
        for field in fields:
            remarks = {proof.remark for proof in found[endpoint, field]}
            if len(remarks) != 1:
                wrong.append(f"{endpoint}: {field}: {' and '.join(remarks) or 'no test has a marker for it'}")
    assert not wrong, "\n".join(wrong)
    return found


def listed(fields, samplers):
    """Fields as text: those of an object after its name, samplers together as one word."""
    objects = collections.defaultdict(list)
    for field in dict.fromkeys(fields):
        within, _, name = field.rpartition(".")
        objects[within].append(name)
    texts = []
    for within, names in objects.items():
        missing = sorted(samplers - set(names))
        words = [f"`{name}`" for name in names]
        if len(missing) <= 1:
            words = [f"`{name}`" for name in names if name not in samplers]
            words.append(SAMPLERS + "".join(f" but `{name}`" for name in missing))
        texts.append(f"`{within}` ({', '.join(words)})" if within else ", ".join(words))
    return ", ".join(texts)


def table(described, found):
    """Rows for people who want to know what works, then the tests."""
    lines, tests = [], collections.defaultdict(lambda: collections.defaultdict(list))
    for api in APIS:
        rows = collections.defaultdict(list)
        for endpoint, fields in described.fields.items():
            if described.api[endpoint] != api or not fields:
                continue
            by_remark = collections.defaultdict(list)
            for field in fields:
                by_remark[found[endpoint, field][0].remark].append(field)
                for proof in found[endpoint, field]:
                    tests[proof.file, proof.test][endpoint].append(field)
            refused = [
                f"{listed(names, described.samplers)} ({remark.partition(': ')[2]})"
                for remark, names in by_remark.items() if remark.startswith(REFUSED)
            ]
            effects = [listed(by_remark[remark], described.samplers) for remark in (WORKS, NONE)]
            rows[*effects, "; ".join(refused)].append(endpoint)
        if rows:
            lines += [f"**{api}**", "", "| Endpoint | Works | No effect | Refused |", "|---|---|---|---|"]
            for cells, endpoints in rows.items():
                lines.append(f"| {'<br>'.join(f'`{e}`' for e in endpoints)} | {' | '.join(cells)} |")
            lines.append("")
    lines += ["<details><summary>The tests</summary>", "", "| Test | Endpoint | Fields |", "|---|---|---|"]
    for (file, test), endpoints in sorted(tests.items()):
        same = collections.defaultdict(list)
        for endpoint, fields in endpoints.items():
            same[listed(fields, described.samplers)].append(endpoint)
        for fields, names in same.items():
            lines.append(f"| [`{test}`](../../{file}) | {'<br>'.join(f'`{n}`' for n in names)} | {fields} |")
    return "\n".join([*lines, "", "</details>"])


described = Description()
text = table(described, proofs(described))
file = ROOT / "docs/api/http.md"
before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
_, found, after = rest.partition(END)
assert found, f"{file} lacks {BEGIN} or {END}"
wanted = f"{before}{BEGIN}\n{text}\n{END}{after}"
if "--update" in sys.argv:
    file.write_text(wanted, encoding="utf-8")
assert file.read_text(encoding="utf-8") == wanted, f"{file} is not up to date: run the test with HEARTH_UPDATE=1"
print("ok")
