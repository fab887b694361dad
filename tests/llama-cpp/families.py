"""Creates a table of the models, and their features, that llama.cpp's tests of its chat layer
cover, from the source text of test-chat.cpp. Running the tests shows whether they pass.

usage: families.py TESTS/test-chat.cpp [OUT]
  OUT   write the table between OUT's lines <!-- families --> and <!-- /families -->
"""

import pathlib
import re
import sys

# A case begins with `tst.test(`; its properties are chained calls.
ASKED = {
    "tools": r"\.tools\(",
    "several": r"\.parallel_tool_calls\(true\)",
    "reasoning": r"\.expect_reasoning\(|_thoughts\b|thoughts_",
    "schema": r"\.json_schema\(",
    "continued": r"\.continue_final_message\(",
}


def cases(text):
    """Yields (template, text of the case), in file order."""
    # A function that is called for each template in a list.
    functions = r"^static void (\w+)\(const std::string & template_path.*?\{\n(.*?)^\}"
    for name, body in re.findall(functions, text, re.M | re.S):
        listed = re.search(r"for \([^{;]*\{([^}]*)\}\)\s*\{\s*%s\(" % name, text)
        for template in re.findall(r'models/templates/([^"]+)\.jinja', listed.group(1) if listed else ""):
            yield from ((template, case) for case in split(body))
    pattern = r'(?:peg_tester(?:\s+tst)?|read_templates)\("models/templates/([^"]+)\.jinja"'
    places = list(re.finditer(pattern, text))
    for place, following in zip(places, [*places[1:], None]):
        part = text[place.end() : following.start() if following else len(text)]
        yield from ((place.group(1), case) for case in split(part))


def split(part):
    return [case.split(".run()")[0] for case in re.split(r"\btst\.test\(", part)[1:]]


def table(text):
    found = {}
    for template, case in cases(text):
        row = found.setdefault(template, dict.fromkeys(["cases", *ASKED], 0))
        row["cases"] += 1
        for name, asked in ASKED.items():
            row[name] += bool(re.search(asked, case))
    lines = ["| Template | Cases | With tools | Several calls | Reasoning | JSON schema | Continued |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|"]
    for template, row in sorted(found.items(), key=lambda item: item[0].lower()):
        lines.append(f"| {template} | " + " | ".join(str(n or "") for n in row.values()) + " |")
    cases_all = sum(row["cases"] for row in found.values())
    return [f"{len(found)} templates, {cases_all} cases:", "", *lines]


def main():
    lines = "\n".join(table(pathlib.Path(sys.argv[1]).read_text()))
    if len(sys.argv) < 3:
        print(lines)
        return
    out = pathlib.Path(sys.argv[2])
    before, rest = out.read_text().split("<!-- families -->\n", 1)
    after = rest.split("<!-- /families -->", 1)[1]
    out.write_text(f"{before}<!-- families -->\n{lines}\n<!-- /families -->{after}")


main()
