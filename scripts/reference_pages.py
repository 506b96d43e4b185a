"""Writes the parts of the documentation that follow from the code or from measurements.

    .venv/bin/python scripts/reference_pages.py [--check]

Only the part of a page between `<!-- generated -->` and `<!-- /generated -->` is rewritten. With
`--check` nothing is written, and the exit status is 1 if a page is not current.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import http_reference
import rust_items

import cloaca
from cloaca._runner.settings import ALIASES, SETTINGS
from cloaca._values.exceptions import CLASS_BY_CODE

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results.json"
MIGRATIONS = ROOT / "crates" / "cloacina" / "migrations"
PART = re.compile(r"(<!-- generated -->\n).*?(<!-- /generated -->)", re.DOTALL)

#: For each code, its cause and the remedy.
ERRORS: dict[str, tuple[str, str]] = {
    "workflow_invalid": (
        "A definition is empty, has an id twice, an unknown dependency, or a cycle.",
        "The message names the cause.",
    ),
    "workflow_input_invalid": (
        "The input of a submission, schedule or trigger does not match the workflow's `input=`.",
        "The message names the path; nothing was stored.",
    ),
    "workflow_not_found": (
        "No workflow of this name is defined here or stored in the database.",
        "Import the module that defines it.",
    ),
    "workflow_failed": (
        "`raise_for_status()` of an execution that failed.",
        "Read `result.error` and `result.tasks`.",
    ),
    "workflow_cancelled": ("`raise_for_status()` of an execution that was cancelled.", ""),
    "workflow_timeout": (
        "`raise_for_status()` of an execution that exceeded its own timeout.",
        "Allow more time, or find what is slow in `result.tasks`.",
    ),
    "task_invalid": (
        "An option of a task is invalid.",
        "The message names the option, the value and the rule.",
    ),
    "task_input_invalid": (
        "A parameter of a typed task has no value, or one that does not match its annotation.",
        "The message names the parameter, the task that returned the value, and the path.",
    ),
    "task_failed": (
        "Raised by tasks; also the error of a task that lost its runner too often.",
        "",
    ),
    "task_timeout": (
        "Raised inside a function that exceeded its timeout.",
        "Do not catch it: the result is dropped anyway.",
    ),
    "context_invalid": (
        "A required key is missing, or a task wrote more than `max_context_bytes`.",
        "Keep large data in a file, and its name in the context.",
    ),
    "configuration": (
        "A setting or an argument is invalid.",
        "The message names the value and the rule.",
    ),
    "url_invalid": ("A database URL cannot be read.", "The hint lists the known forms."),
    "connection": (
        "The database cannot be reached, or does not answer in time.",
        "Check the server; the message names it.",
    ),
    "database": (
        "The database refused a request: a path, a permission, a full disk, a damaged file.",
        "The message says what and where.",
    ),
    "migration": (
        "The database has a newer schema than this program, or must be migrated first.",
        "Upgrade the program, or let it migrate.",
    ),
    "execution_not_found": (
        "No execution has this id.",
        "It may have been pruned, or be in another database.",
    ),
    "execution_state": (
        "The execution's state does not allow the request, e.g. retrying a cancelled one.",
        "The hint says what is possible.",
    ),
    "wait_timeout": (
        "`result(timeout=…)` stopped waiting; the execution continues.",
        "Call it again, or cancel the execution.",
    ),
    "already_decided": (
        "An approval was decided before. The message says who decided, and when.",
        "Read the result of the approval.",
    ),
    "child_failed": (
        "The workflow that a node runs failed, timed out or was cancelled.",
        "The message names the child and its error. Remove the cause, then retry the parent.",
    ),
    "runner_closed": ("The runner was shut down.", "Start a new `DefaultRunner`."),
    "claim_lost": (
        "An attempt recorded a step after it had lost its claim, by a timeout, a cancel or a "
        "rescue. In Python the function exits instead.",
        "Leave the function: its result is dropped.",
    ),
    "step_limit": (
        "A task has more than 10,000 recorded steps, or more than `max_context_bytes` bytes of "
        "them. It is not retried.",
        "Go on in another execution; keep large data in a file, and its name in the step.",
    ),
    "deadlock": (
        "A task would wait for something that cannot end while it waits: for its own "
        "execution, with `result()` or `execute()` in a coroutine, or on the last free worker "
        "thread. It is not retried.",
        "`await handle` in an `async def` task, or more workers.",
    ),
    "forked": (
        "A forked process used a runner, or an SQLite file, that was open at the fork.",
        "Use `spawn`, shut the runner down before the fork, or open the first runner after it.",
    ),
    "schedule_invalid": (
        "A cron expression, a time zone or an option of a schedule or trigger cannot be read.",
        "The message names the position of the fault and what was expected.",
    ),
    "schedule_not_found": (
        "No schedule has this id, or no trigger this name.",
        "`list_cron_schedules()` lists the schedules of the database.",
    ),
}


def errors() -> str:
    """The table of error codes, in the order of the code."""
    missing = set(CLASS_BY_CODE) - set(ERRORS)
    if missing:
        raise SystemExit(f"reference_pages.py: say in ERRORS what {sorted(missing)} mean")
    rows = ["| code | class | when | what to do |", "|---|---|---|---|"]
    for code, kind in CLASS_BY_CODE.items():
        when, remedy = ERRORS[code]
        # The anchor of the error, to which answers of the HTTP API link.
        anchor = f'<span id="{code.replace("_", "-")}"></span>'
        row = f"| {anchor}`{code}` | `{kind.__name__}` | {when} | {remedy} |"
        rows.append(row.replace("|  |", "| |"))
    rows += ["", "| class | is also |", "|---|---|"]
    for kind in dict.fromkeys(CLASS_BY_CODE.values()):
        bases = [base.__name__ for base in kind.__mro__[1:] if base not in (BaseException, object)]
        bases.remove("Exception")
        shown = [f"`{name}`" for name in dict.fromkeys(bases)]
        rows.append(f"| `{kind.__name__}` | {', '.join(shown)} |")
    return "\n".join(rows) + "\n"


def descriptions(function: object) -> dict[str, str]:
    """The arguments of a function with their descriptions in its docstring."""
    text = inspect.cleandoc(inspect.getdoc(function) or "")
    part = re.search(r"^Args:\n(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    found: dict[str, str] = {}
    for line in part.group(1).splitlines() if part else []:
        entry = re.match(r"^    (\w+): (.*)$", line)
        if entry:
            last = entry.group(1)
            found[last] = entry.group(2)
        elif line.strip():
            found[last] += " " + line.strip()
    return found


def configuration() -> str:
    """The table of settings, in the order of the class."""
    said = descriptions(cloaca.DefaultRunnerConfig.__init__)
    signature = inspect.signature(cloaca.DefaultRunnerConfig)
    rows = ["| setting | default | must be | what it does |", "|---|---|---|---|"]
    for name, setting in SETTINGS.items():
        default = signature.parameters[name].default
        rows.append(f"| `{name}` | `{default!r}` | {setting.rule()} | {said[name]} |")
    rows += ["", "Other names, from earlier releases: "]
    rows[-1] += ", ".join(f"`{alias}` for `{name}`" for alias, name in ALIASES.items()) + "."
    return "\n".join(rows) + "\n"


TABLE = re.compile(
    r"(?P<comment>(?:^--[^\n]*\n)*)^CREATE TABLE (?P<name>\w+) \(\n(?P<body>.*?)^\)",
    re.DOTALL | re.MULTILINE,
)
INDEX = re.compile(
    r"(?P<comment>(?:^--.*\n)*)^CREATE (?P<unique>UNIQUE )?INDEX (?P<name>\w+) ON (?P<table>\w+) "
    r"\((?P<columns>.*?)\)(?:\s+WHERE (?P<where>[^;]+))?;",
    re.MULTILINE,
)
ADDED = re.compile(r"^ALTER TABLE (\w+) ADD COLUMN (.+);", re.MULTILINE)


def columns_of(body: str) -> dict[str, str]:
    """The columns of a table with their types, without constraints."""
    found: dict[str, str] = {}
    for line in body.splitlines():
        text = line.strip().rstrip(",")
        name, _, rest = text.partition(" ")
        if name and name.islower():
            kind = rest.split()[0].lower()
            is_filled = "NOT NULL" in rest or "PRIMARY KEY" in rest
            found[name] = kind if is_filled else f"{kind} or null"
    return found


def sentence(comment: str) -> str:
    """An SQL comment as a paragraph."""
    return " ".join(line.removeprefix("--").strip() for line in comment.splitlines())


def schema() -> str:
    """The tables of both databases, as the migrations make them."""
    kinds: dict[str, dict[str, dict[str, str]]] = {}
    comments: dict[str, str] = {}
    indexes: dict[str, list[str]] = {}
    for kind in ("sqlite", "postgres"):
        for file in sorted((MIGRATIONS / kind).glob("*/up.sql")):
            text = file.read_text()
            for table in TABLE.finditer(text):
                kinds.setdefault(table["name"], {})[kind] = columns_of(table["body"])
                # The first table's comment is about the whole file.
                is_first = not text[: table.start()].strip("\n")
                if kind == "postgres" and table["comment"] and not is_first:
                    comments[table["name"]] = sentence(table["comment"])
            for name, column in ADDED.findall(text):
                kinds[name][kind] |= columns_of(column)
            for index in INDEX.finditer(text) if kind == "postgres" else ():
                unique = "unique " if index["unique"] else ""
                where = f" where `{' '.join(index['where'].split())}`" if index["where"] else ""
                said = f": {sentence(index['comment'])}" if index["comment"] else ""
                line = f"- {unique}index `{index['name']}` on `{index['columns']}`{where}{said}"
                indexes.setdefault(index["table"], []).append(line)
    parts: list[str] = []
    for name, by_kind in kinds.items():
        parts += [f"### `{name}`", ""]
        parts += [comments[name], ""] if name in comments else []
        parts += ["| column | SQLite | PostgreSQL |", "|---|---|---|"]
        for column in dict.fromkeys(c for columns in by_kind.values() for c in columns):
            cells = [by_kind.get(kind, {}).get(column, "") for kind in ("sqlite", "postgres")]
            parts.append(f"| `{column}` | {cells[0]} | {cells[1]} |")
        parts += [""]
        parts += [*indexes[name], ""] if name in indexes else []
    return "\n".join(parts)


def metrics() -> str:
    """The table of metrics, from those that a runner exposes after a task."""
    with cloaca.WorkflowBuilder("shown"):
        cloaca.task(id="shown")(lambda context: None)
    # A map is counted while it is open.
    gate = threading.Event()
    with cloaca.WorkflowBuilder("mapped", input={"rows": list[int]}):
        cloaca.task(id="mapped", over="rows")(lambda row: gate.wait(60))
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.execute("shown")
        handle = runner.submit("mapped", {"rows": [1]})
        while "cloaca_map_items{" not in (text := runner.metrics()):
            pass
        gate.set()
        handle.result(60)
    rows = ["| metric | kind | labels | what |", "|---|---|---|---|"]
    bounds: dict[str, list[str]] = {}
    for name, said in re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE):
        kind = re.search(rf"^# TYPE {name} (\w+)$", text, re.MULTILINE)
        sample = re.search(rf"^{name}(?:_bucket)?(?:\{{(.*)\}})? ", text, re.MULTILINE)
        assert kind is not None
        assert sample is not None
        labels = [label for label in re.findall(r'(\w+)="', sample[1] or "") if label != "le"]
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{name}` | {kind[1]} | {shown} | {said} |".replace("|  |", "| |"))
        if kind[1] == "histogram":
            edges = re.findall(rf'^{name}_bucket\{{.*le="([\d.]+)"', text, re.MULTILINE)
            unit = "s" if name.endswith("_seconds") else "executions"
            edges = list(dict.fromkeys(edges))
            bounds.setdefault(f"{', '.join(edges)} {unit}", []).append(f"`{name}`")
    rows += ["", "| histogram | buckets end at |", "|---|---|"]
    rows += [f"| {', '.join(names)} | {edges} |" for edges, names in bounds.items()]
    return "\n".join(rows) + "\n"


#: A description of each workload.
WORKLOADS = {
    "W1": "a chain of 3 tasks, one execution at a time, from submit to result",
    "W2": "2,000 executions of one task by one `submit_many`, to the last result",
    "W2-threads": "the same, each by a `submit` of its own, from 8 threads",
    "W3": "300 executions of 10 tasks: one, then eight, then one",
    "W4": "the chain with 100 KB of JSON, alone, and 200 at once",
    "W5": "an empty start, and a runner that has nothing to do",
    "W6": "W2 on a database with 0, 100 thousand and a million executions that have ended",
    "W7": "1,000 coroutines that sleep for 100 ms, in 1,000 executions and in one",
    "W8": "50 executions in flight, `kill -9`, and a new start",
    "W9": "4 processes on one database, each submitting and working",
    "W10": "4 runners on one database, work submitted in a fifth process",
    "W11": "a fan-out of 10,000 tasks into one",
    "W18": "W3 with typed tasks: records of ten fields, lists of 1,000 numbers",
    "load": "W1 while W2 runs at half of its maximum rate",
    "fair": "an urgent execution, a schedule's tick and heartbeats in a flood of short tasks",
    "memory": "a fan-out of 10,000 tasks, and W2 in a loop for a minute",
}
DATABASES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
#: The end of a figure's name, its unit, and its number of decimals.
UNITS = [
    ("_per_s", "/s", 0),
    ("_us", " µs", 0),
    ("_ms", " ms", 1),
    ("_s", " s", 2),
    ("_mb", " MB", 0),
    ("_percent", " %", 1),
]


def figure(name: str, value: float) -> str:
    """A figure in words, with its unit: `p50_us` of 805.4 becomes `p50 805 µs`."""
    for end, unit, digits in UNITS:
        if name.endswith(end):
            return f"{name.removesuffix(end).replace('_', ' ')} {value:,.{digits}f}{unit}"
    # Counts and rates are shown without decimals, ratios with them.
    return f"{name.replace('_', ' ')} {value:,.{0 if value >= 1000 else 2}f}"


def machine(results: dict[str, Any]) -> str:
    """The date and the machine of the measurement."""
    known = results["machine"]
    processor = f" of {known['processor']}" if known.get("processor") else ""
    return f"{results['date']}, {known['cpus']} cores{processor}, CPython {known['python']}"


def workload_rows(results: dict[str, Any], *, in_short: bool) -> list[str]:
    """A row for every measured workload; in short form, only for those with a ratio."""
    rows: list[str] = []
    for database, name in DATABASES.items():
        measured = results.get(database, {}).get("workloads", {})
        for workload, figures in measured.items():
            ratio = figures.get("ratio_to_limit")
            if in_short and ratio is None:
                continue
            shown = [
                figure(what, value)
                for what, value in figures.items()
                if what != "ratio_to_limit" and isinstance(value, (int, float))
            ]
            said = WORKLOADS.get(workload, workload)
            cells = [name, said, shown[0] if in_short else ", ".join(shown)]
            cells += [f"{ratio:.2f}" if ratio is not None else ""]
            cells = cells if in_short else [workload, *cells]
            rows.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return rows


def performance() -> str:
    """The table of the last run of the benchmarks."""
    results = json.loads(RESULTS.read_text())
    rows = [f"Measured {machine(results)}.", ""]
    rows += ["| | database | workload | figures | of the limit |", "|---|---|---|---|---|"]
    return "\n".join(rows + workload_rows(results, in_short=False)) + "\n"


def performance_in_short() -> str:
    """The table of the README: the workloads with a ratio to the limit."""
    results = json.loads(RESULTS.read_text())
    rows = ["| database | workload | measured | of the limit |", "|---|---|---|---|"]
    rows += workload_rows(results, in_short=True)
    return "\n".join([*rows, "", f"Measured {machine(results)}."]) + "\n"


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "README.md": performance_in_short,
    DOCS / "explanation" / "performance.md": performance,
    DOCS / "reference" / "configuration.md": configuration,
    DOCS / "reference" / "database-schema.md": schema,
    DOCS / "reference" / "errors.md": errors,
    DOCS / "reference" / "http-api.md": http_reference.routes,
    DOCS / "reference" / "metrics.md": metrics,
    DOCS / "reference" / "rust.md": rust_items.tables,
}


def outdated() -> dict[Path, str]:
    """The pages that are not current, with their new text."""
    found: dict[Path, str] = {}
    for path, make in PAGES.items():
        text = path.read_text()
        made = make()
        new, count = PART.subn(lambda part, made=made: f"{part[1]}\n{made}\n{part[2]}", text)
        if count != 1:
            raise SystemExit(f"reference_pages.py: {path} needs one part between the marks")
        if new != text:
            found[path] = new
    return found


def main() -> int:
    """Write the pages, or report which are not current."""
    found = outdated()
    for path, text in found.items():
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is not current", file=sys.stderr)
        else:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if found and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
