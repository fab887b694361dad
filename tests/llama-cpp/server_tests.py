"""Runs llama.cpp's tests of its server against the server at port PORT, and compares their
outcomes with a table.

usage: server_tests.py TESTS TABLE (--but FILE | --only FILE) [--write | -k EXPRESSION]

The table has a line for each test, with tabs: its id, `passed`, `differs` or `varies`, and for
the latter two why. A test that varies has to run; what comes of it is drawn, as its requests
have no seed. A line whose id is a file's name stands for all of its tests, which are not run.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

# What the tests import and do not need here: it serves downloads and parallel runs.
STAND_INS = {
    "filelock.py": "import contextlib\n\ndef FileLock(_):\n    return contextlib.nullcontext()\n",
    "wget.py": "def download(url, out):\n    raise RuntimeError(f'not fetched: {url}')\n",
}
# The outcome of tests whose requests have no seed.
VARIES = "varies"
# Seconds for the tests of a file.
TIMEOUT = 1800


def read(table):
    """The expected outcome and its reason by test, in the order of the file."""
    if not table.exists():
        return {}
    lines = table.read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {row[0]: (row[1], row[2] if len(row) > 2 else "") for row in rows}


def outcomes(report):
    """What came of each test, and the end of what it said."""
    found = {}
    for case in xml.parse(report).getroot().iter("testcase"):
        file = case.get("classname").rsplit(".", 1)[-1] + ".py"
        said = [part for part in case if part.tag in ("failure", "error", "skipped")]
        if any(part.tag == "skipped" for part in said):
            continue
        message = said[0].get("message").splitlines()[0] if said and said[0].get("message") else ""
        found[f"{file}::{case.get('name')}"] = ("differs" if said else "passed", message)
    return found


def run(tests, file, expression):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, text in STAND_INS.items():
            (folder / name).write_text(text, encoding="utf-8")
        path = os.pathsep.join([str(folder), str(tests)])
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
        command += ["-m", "not slow", f"--junitxml={folder / 'report.xml'}", "-o", "junit_family=xunit1"]
        command += ["-k", expression] if expression else ["--tb=no"]
        with (folder / "said").open("w+", encoding="utf-8") as said:
            subprocess.run(
                [*command, file], cwd=tests, timeout=TIMEOUT, stdin=subprocess.DEVNULL,
                stdout=None if expression else said, stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "DEBUG_EXTERNAL": "1"},
            )
            said.seek(0)
            text = said.read()
        if not (folder / "report.xml").exists():
            sys.exit(f"pytest made no report:\n{text}")
        return outcomes(folder / "report.xml")


def write(table, expected, found, files):
    """Replaces the lines of these files' tests; reasons stay."""
    rows = {name: row for name, row in expected.items() if name.split("::")[0] not in files}
    for name, (outcome, message) in found.items():
        if expected.get(name, ("",))[0] == VARIES:
            rows[name] = expected[name]
            continue
        reason = expected.get(name, ("", ""))[1] if outcome == "differs" else ""
        rows[name] = (outcome, reason or (f"? {message}" if outcome == "differs" else ""))
    head = [line for line in table.read_text(encoding="utf-8").splitlines() if line.startswith("#")] if table.exists() else []
    lines = ["\t".join(part for part in (name, *row) if part) for name, row in sorted(rows.items())]
    table.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")


def wrong(expected, found, files):
    """What is not as the table says."""
    for name, (outcome, message) in found.items():
        if name not in expected:
            yield f"{name} {outcome} and is not in the table: {message}"
        elif expected[name][0] not in (outcome, VARIES):
            yield f"{name} {outcome}, but the table says {expected[name][0]}: {message}"
    for name, (outcome, reason) in expected.items():
        if "::" in name and name.split("::")[0] in files and name not in found:
            yield f"{name} is in the table, and there is no such test"
        if outcome != "passed" and (not reason or reason.startswith("?")):
            yield f"{name} {outcome} without a reason"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tests", type=pathlib.Path)
    parser.add_argument("table", type=pathlib.Path)
    parser.add_argument("--but")
    parser.add_argument("--only")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("-k", dest="expression")
    args = parser.parse_args()
    expected = read(args.table)
    files = sorted(file.name for file in (args.tests / "unit").glob("test_*.py"))
    files = [file for file in files if file not in expected]
    files = [args.only] if args.only else [file for file in files if file != args.but]
    found = {}
    for file in files:
        found |= run(args.tests, f"unit/{file}", args.expression)
        if args.write:
            write(args.table, read(args.table), {name: row for name, row in found.items() if name.startswith(file)}, [file])
    if args.expression:
        return
    expected = read(args.table)
    mistakes = list(wrong(expected, found, files))
    passed = sum(outcome == "passed" for outcome, _ in found.values())
    print(f"llama.cpp's server tests: {passed} of {len(found)} passed")
    if mistakes:
        sys.exit("\n".join(mistakes))


if __name__ == "__main__":
    main()
