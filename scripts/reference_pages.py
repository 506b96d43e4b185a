"""Writes the parts of the documentation that are generated from the code or from measurements.

    .venv/bin/python scripts/reference_pages.py [--check]

Only the part of a page between `<!-- generated -->` and `<!-- /generated -->` is replaced. With
`--check`, writes nothing, and exits with status 1 if a page is out of date.
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

#: For each error code: the cause of the error, and what to do about it.
ERRORS: dict[str, tuple[str, str]] = {
    "workflow_invalid": (
        "A definition is empty, or has a duplicate id, an unknown dependency or a cycle.",
        "The message names the cause.",
    ),
    "workflow_input_invalid": (
        "The input of a submission, schedule or trigger does not match the workflow's `input=`.",
        "The message names the path. Nothing was stored.",
    ),
    "workflow_not_found": (
        "No workflow of this name is defined here or stored in the database.",
        "Import the module that defines it.",
    ),
    "workflow_failed": (
        "`raise_for_status()` was called for an execution that failed.",
        "Read `result.error` and `result.tasks`.",
    ),
    "workflow_cancelled": (
        "`raise_for_status()` was called for an execution that was cancelled.",
        "",
    ),
    "workflow_timeout": (
        "`raise_for_status()` was called for an execution that exceeded its own timeout.",
        "Raise the timeout, or look for slow tasks in `result.tasks`.",
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
        "A task failed, or its runner was lost too often while the task ran.",
        "",
    ),
    "task_timeout": (
        "Raised inside a function that exceeded its timeout.",
        "Do not catch it, because the result is dropped in any case.",
    ),
    "context_invalid": (
        "A required key is missing, or a task wrote more than `max_context_bytes`.",
        "Keep large data in a file, and only the name of the file in the context.",
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
        "The database refused a request, e.g. because of a wrong path, a missing permission, a "
        "full disk or a damaged file.",
        "The message says what failed, and in which database.",
    ),
    "migration": (
        "The database has a newer schema than this program, or must be migrated first.",
        "Upgrade the program, or let it migrate.",
    ),
    "execution_not_found": (
        "No execution has this id.",
        "The execution may have been pruned, or it may be in another database.",
    ),
    "execution_state": (
        "The execution's state does not allow the request, e.g. retrying a cancelled one.",
        "The hint says which requests are possible.",
    ),
    "wait_timeout": (
        "`result(timeout=…)` stopped waiting; the execution continues. "
        "Or a task's wait timed out, and the task failed.",
        "Call `result()` again, or cancel the execution. "
        "For a task's wait, set a longer timeout or `on_timeout=`.",
    ),
    "already_decided": (
        "The approval has already been decided. The message says who decided, and when.",
        "Read the result of the approval.",
    ),
    "child_failed": (
        "The workflow that a node runs failed, timed out or was cancelled.",
        "The message names the child and its error. Remove the cause, then retry the parent.",
    ),
    "runner_closed": (
        "The runner was shut down, or it was not started and its database is in memory.",
        "Start a new `DefaultRunner`, or call `start()`.",
    ),
    "claim_lost": (
        "An attempt tried to record a step after it had lost its claim, because of a timeout, a "
        "cancellation or a rescue. In Python, the function exits instead of raising this error.",
        "Leave the function, because its result is dropped.",
    ),
    "step_limit": (
        "A task has more than 10,000 recorded steps, or more than `max_context_bytes` bytes of "
        "them. It is not retried.",
        "Continue in another execution. Keep large data in a file, and only the name of the file "
        "in the step.",
    ),
    "deadlock": (
        "A task tried to wait for an execution that cannot end during the wait: it called "
        "`result()` or `execute()` in a coroutine, waited for its own execution, or would have "
        "blocked the last free worker thread. The task is not retried.",
        "Use `await handle` in an `async def` task, or configure more workers.",
    ),
    "forked": (
        "A forked process used a runner or an SQLite file that was open when it forked.",
        "Use `spawn`, shut the runner down before the fork, or open the first runner after "
        "the fork.",
    ),
    "schedule_invalid": (
        "A cron expression, a time zone or an option of a schedule or trigger cannot be read.",
        "The message names the position of the mistake and the expected text.",
    ),
    "schedule_not_found": (
        "No schedule has this id, or no trigger has this name.",
        "`list_cron_schedules()` lists the schedules of the database.",
    ),
}


def errors() -> str:
    """Returns the table of error codes, in the order of `CLASS_BY_CODE`."""
    missing = set(CLASS_BY_CODE) - set(ERRORS)
    if missing:
        raise SystemExit(f"reference_pages.py: ERRORS has no entries for {sorted(missing)}")
    rows = ["| code | class | when | what to do |", "|---|---|---|---|"]
    for code, kind in CLASS_BY_CODE.items():
        when, remedy = ERRORS[code]
        # Error responses of the HTTP API link to this anchor.
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
    """Returns the arguments of a function, with the descriptions in its docstring."""
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
    """Returns the table of settings, in the order of the class."""
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
    r"(?P<comment>(?:^--.*\n)*)(?:^DROP INDEX \w+;\n)?"
    r"^CREATE (?P<unique>UNIQUE )?INDEX (?P<name>\w+) ON (?P<table>\w+) "
    r"\((?P<columns>.*?)\)(?:\s+WHERE (?P<where>[^;]+))?;",
    re.MULTILINE,
)
ADDED = re.compile(r"^ALTER TABLE (\w+) ADD COLUMN (.+);", re.MULTILINE)


def columns_of(body: str) -> dict[str, str]:
    """Returns the columns of a table with their types, without constraints."""
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
    """Joins the lines of an SQL comment into a paragraph."""
    return " ".join(line.removeprefix("--").strip() for line in comment.splitlines())


def schema() -> str:
    """Returns the tables of both databases, as the migrations create them."""
    kinds: dict[str, dict[str, dict[str, str]]] = {}
    comments: dict[str, str] = {}
    # For each table: the line of each index, by the index's name.
    indexes: dict[str, dict[str, str]] = {}
    for kind in ("sqlite", "postgres"):
        for file in sorted((MIGRATIONS / kind).glob("*/up.sql")):
            text = file.read_text()
            for table in TABLE.finditer(text):
                kinds.setdefault(table["name"], {})[kind] = columns_of(table["body"])
                # The comment before the first table describes the whole file.
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
                # A migration that creates an index again replaces the line of the earlier index.
                indexes.setdefault(index["table"], {})[index["name"]] = line
    parts: list[str] = []
    for name, by_kind in kinds.items():
        parts += [f"### `{name}`", ""]
        parts += [comments[name], ""] if name in comments else []
        parts += ["| column | SQLite | PostgreSQL |", "|---|---|---|"]
        for column in dict.fromkeys(c for columns in by_kind.values() for c in columns):
            cells = [by_kind.get(kind, {}).get(column, "") for kind in ("sqlite", "postgres")]
            parts.append(f"| `{column}` | {cells[0]} | {cells[1]} |")
        parts += [""]
        parts += [*indexes[name].values(), ""] if name in indexes else []
    return "\n".join(parts)


def metrics() -> str:
    """Returns the table of metrics, read from a runner that has run a task."""
    with cloaca.WorkflowBuilder("shown"):
        cloaca.task(id="shown")(lambda context: None)
    # The metrics of a map exist only while the map is open.
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
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
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
    "W1": "a chain of 3 tasks, one execution at a time, from submission to result",
    "W2": "2,000 one-task executions submitted by one `submit_many`, until the last result",
    "W2-threads": "2,000 one-task executions submitted one by one from 8 threads",
    "W3": "300 executions of 10 tasks each: one task, then eight in parallel, then one",
    "W4": "the chain of W1 with 100 KB of JSON: executions one at a time, then 200 at once",
    "W5": "a start with an empty database, and an idle runner",
    "W6": "W2 on a database with 0, 100,000 and 1,000,000 ended executions",
    "W7": "1,000 coroutines that each sleep for 100 ms, in 1,000 executions and in a single one",
    "W8": "`kill -9` with 50 running executions, then a restart",
    "W9": "4 processes that submit and run executions on one database",
    "W10": "4 runners on one database run executions that a fifth process submits",
    "W11": "a fan-out to 10,000 tasks, which one task joins",
    "W12": "a map of 100,000 items and its reduce, while small executions run",
    "W12-processes": "the same with 4 processes on one database",
    "W13": (
        "1,000 steps of one task; 200 concurrent tasks of 50 steps each; "
        "10,000 recorded steps read again"
    ),
    "W14": (
        "the time from sending a signal until the waiting task starts; 100,000 sleeping executions"
    ),
    "W15": "a parent with 10,000 children of one task",
    "W18": "W3 with typed tasks: records of ten fields, and lists of 1,000 numbers",
    "W19": "the HTTP API with a million executions, and with one open page while W2 runs",
    "load": "W1 while W2 runs at half of its maximum rate",
    "fair": "an urgent execution, a schedule's tick and heartbeats during a flood of short tasks",
    "memory": "a fan-out to 10,000 tasks, then W2 in a loop for a minute",
}
DATABASES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
#: For each suffix of a figure's name: the unit, and the number of decimals.
UNITS = [
    ("_per_s", "/s", 0),
    ("_us", " µs", 0),
    ("_ms", " ms", 1),
    ("_s", " s", 2),
    ("_mb", " MB", 0),
    ("_percent", " %", 1),
]
#: Texts for figures whose names alone do not say what they mean. `{}` is the value with its unit.
FIGURES = {
    "after_fan_out_mb": "after the fan-out {}",
    "all_done_after_s": "all done after {}",
    "at_0_per_s": "with none {}",
    "at_0_mb": "{}",
    "at_100000_per_s": "with 100,000 {}",
    "at_100000_mb": "{}",
    "at_1000000_per_s": "with 1,000,000 {}",
    "at_1000000_mb": "{}",
    "executions": "{} executions",
    "executions_per_s_beside": "W2 beside it {}/s",
    "first_result_ms": "first result after {}",
    "grown_mb": "growth {}",
    "heartbeat_late_max_ms": "latest heartbeat {} late",
    "home_p95_ms": "the Attention page p95 {}",
    "in_many_s": "in 1,000 executions {}",
    "in_one_s": "in a single execution {}",
    "late_p50_ms": "delay of other executions p50 {}",
    "late_p99_ms": "delay of other executions p99 {}",
    "list_of_context": "lists at {} times the rate of a context",
    "list_p95_ms": "lists that an index answers p95 {}",
    "more_than_w1_us": "{} longer than with small values",
    "neighbours": "{} other executions",
    "of_empty": "with 1,000,000 {} times the rate of an empty database",
    "of_one_process": "{} times the rate of one process",
    "of_rows_in_hundreds": "{} times the rate of rows written in hundreds",
    "of_rows_one_by_one": "{} times the time of rows written one by one",
    "of_task_rows": "{} times the rate of rows written for tasks",
    "of_w2": "{} times the rate of W2",
    "of_w11": "{} times the rate of W11",
    "one_process_per_s": "one process {}",
    "p99_of_idle_p50": "p99 is {} times the idle p50",
    "record_of_context": "records at {} times the rate of a context",
    "resume_at_once_ms": "10,000 steps read again at once in {}",
    "resume_ms": "10,000 steps read again one by one in {}",
    "run_of_10000_p95_ms": "an execution of 10,000 tasks p95 {}",
    "scan_p95_ms": "lists that scan rows p95 {}",
    "send_elsewhere_p50_ms": "sent by another process p50 {}",
    "send_p50_us": "p50 {}",
    "share_of_python": "tasks in Rust would save {} of the time",
    "start_elsewhere_p50_ms": "from submission to start p50 {}",
    "tick_max_ms": "latest tick {} late",
    "w2_beside_page": "{} times the rate of W2 without a page",
}


def figure(name: str, value: float) -> str:
    """Formats a figure with its unit: `p50_us` of 805.4 becomes `p50 805 µs`."""
    # Without a unit, counts and values of 1,000 or more have no decimals, other values have two.
    is_whole = isinstance(value, int) or value >= 1000
    shown, plain = f"{value:,.{0 if is_whole else 2}f}", name
    for end, unit, digits in UNITS:
        if name.endswith(end):
            shown, plain = f"{value:,.{digits}f}{unit}", name.removesuffix(end)
            break
    return FIGURES.get(name, plain.replace("_", " ") + " {}").format(shown)


def machine(results: dict[str, Any]) -> str:
    """Returns the date and the machine of the measurement."""
    known = results["machine"]
    processor = f" of {known['processor']}" if known.get("processor") else ""
    return f"{results['date']}, {known['cpus']} cores{processor}, CPython {known['python']}"


def workload_rows(results: dict[str, Any], *, in_short: bool) -> list[str]:
    """Returns a table row for each workload; in short form, only for workloads with a ratio."""
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
    """Returns the table of the last run of the benchmarks."""
    results = json.loads(RESULTS.read_text())
    rows = [f"Measured {machine(results)}.", ""]
    rows += ["| | database | workload | figures | ratio to the limit |", "|---|---|---|---|---|"]
    return "\n".join(rows + workload_rows(results, in_short=False)) + "\n"


def performance_in_short() -> str:
    """Returns the README's table: the workloads with a ratio to the limit."""
    results = json.loads(RESULTS.read_text())
    rows = ["| database | workload | measured | ratio to the limit |", "|---|---|---|---|"]
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
    """Returns the pages that are out of date, with their new text."""
    found: dict[Path, str] = {}
    for path, make in PAGES.items():
        text = path.read_text()
        made = make()
        new, count = PART.subn(lambda part, made=made: f"{part[1]}\n{made}\n{part[2]}", text)
        if count != 1:
            raise SystemExit(f"reference_pages.py: {path} must contain exactly one generated part")
        if new != text:
            found[path] = new
    return found


def main() -> int:
    """Writes the pages. With `--check`, reports which are out of date."""
    found = outdated()
    for path, text in found.items():
        if "--check" in sys.argv[1:]:
            shown = path.relative_to(ROOT)
            hint = "run python scripts/reference_pages.py"
            print(f"{shown} is out of date; hint: {hint}", file=sys.stderr)
        else:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if found and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
