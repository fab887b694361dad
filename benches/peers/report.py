"""Tables of what was measured, and where they are written."""

import pathlib
import platform
import statistics

# When a long system prompt is asked under.
COLUMNS = ("first time", "second turn", "new talk", "after a restart")


def time_of(value):
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def study_table(document, failed, missing):
    lines = [
        "| | one prompt | three prompts | first token | tokens/s | tokens | CPU | memory, mean | peak |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for server in document["servers"]:
        one = server["forms"]["one_prompt"]["summary"]
        three = server["forms"]["three_prompts"]["summary"]
        if not one:
            failed[server["name"]] = server["failures"][0]["message"]
            continue
        cell = lambda form, key, show: show(form[key]["median"]) if key in form else "–"
        both = lambda form: f"{time_of(form['response_s']['median'])} ± {time_of(form['response_s']['deviation'])}"
        cells = [
            server["name"],
            both(one),
            both(three) if three else "–",
            cell(one, "first_token_s", time_of),
            cell(three, "tokens_per_s", lambda v: f"{v:.1f}"),
            cell(three, "tokens", lambda v: f"{v:.0f}"),
            cell(three, "cpu_percent", lambda v: f"{v:.0f} %"),
            cell(three, "memory_average_mib", lambda v: f"{v:.0f} MiB"),
            cell(three, "memory_peak_mib", lambda v: f"{v:.0f} MiB"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + reasons({**failed, **missing})


def prefix_table(times, missing):
    lines = [
        f"| | {' | '.join(COLUMNS)} | of the first time |",
        "|---|" + "--:|" * (len(COLUMNS) + 1),
    ]
    failed = {}
    for name, found in times.items():
        if not found["after a restart"]:
            failed[name] = found.get("failed", "?")
            continue
        medians = [statistics.median(found[column]) for column in COLUMNS]
        cells = [name, *map(time_of, medians), f"{medians[-1] / medians[0]:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines + reasons({**failed, **missing})


def reasons(why):
    return [""] + [f"- {name}: {reason.replace('|', '/')}" for name, reason in why.items()] if why else []


def cpu():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ", 1)[1]
    board = pathlib.Path("/proc/device-tree/model")
    return board.read_text().strip("\0") if board.exists() else platform.machine()


def put(text, file, mark="peers"):
    """Between the marks, and the file is replaced as a whole."""
    before, rest = file.read_text().split(f"<!-- {mark} -->\n", 1)
    after = rest.split(f"<!-- /{mark} -->", 1)[1]
    part = file.with_suffix(".part")
    part.write_text(f"{before}<!-- {mark} -->\n{text}\n<!-- /{mark} -->{after}")
    part.rename(file)
