"""Writes the parts of the reference that follow from the code.

    .venv/bin/python scripts/reference_pages.py [--check]

A page keeps its own words; what stands between `<!-- generated -->` and `<!-- /generated -->` is
written anew. With `--check` nothing is written, and the exit status is 1 where a page is not
current.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import cloaca
from cloaca._exceptions import CLASS_BY_CODE
from cloaca._settings import ALIASES, SETTINGS

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
MIGRATIONS = ROOT / "crates" / "cloacina" / "migrations"
PART = re.compile(r"(<!-- generated -->\n).*?(<!-- /generated -->)", re.DOTALL)

#: When each code occurs, and what helps.
ERRORS: dict[str, tuple[str, str]] = {
    "workflow_invalid": (
        "A definition is empty, has an id twice, an unknown dependency, or a cycle.",
        "The message names the culprit.",
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
        "`raise_for_status()` of an execution that overran its own timeout.",
        "Allow more time, or find what is slow in `result.tasks`.",
    ),
    "task_invalid": (
        "An option of a task makes no sense.",
        "The message names option, value and rule.",
    ),
    "task_failed": (
        "For tasks to raise; also what a task ends with that lost its runner too often.",
        "",
    ),
    "task_timeout": (
        "Raised inside a function that overran its timeout.",
        "Let it pass: the result is dropped anyway.",
    ),
    "context_invalid": (
        "A required key is missing, or a task wrote more than `max_context_bytes`.",
        "Keep large data in a file and its name in the context.",
    ),
    "configuration": (
        "A setting or an argument makes no sense.",
        "The message names the value and the rule.",
    ),
    "url_invalid": ("A database URL cannot be read.", "The hint lists what is known."),
    "connection": (
        "The database cannot be reached, or does not answer in time.",
        "Look at the server; the message says which one.",
    ),
    "database": (
        "The database refused: a path, a permission, a full disk, a damaged file.",
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
        "The execution's state does not allow it, e.g. to retry what was cancelled.",
        "The hint says what would work.",
    ),
    "wait_timeout": (
        "`result(timeout=…)`: the waiting is over, the execution goes on.",
        "Call it again, or cancel the execution.",
    ),
    "runner_closed": ("The runner was shut down.", "Start a new `DefaultRunner`."),
    "forked": (
        "A runner was used in a process that was forked after it started.",
        "Start a runner in the child.",
    ),
    "schedule_invalid": (
        "A schedule is not valid or not known.",
        "The message says what is wrong, and where.",
    ),
}


def errors() -> str:
    """The table of error codes, in the order of the code."""
    missing = set(CLASS_BY_CODE) ^ set(ERRORS)
    if missing:
        raise SystemExit(f"reference_pages.py: say in ERRORS what {sorted(missing)} mean")
    rows = ["| code | class | when | what to do |", "|---|---|---|---|"]
    for code, kind in CLASS_BY_CODE.items():
        when, remedy = ERRORS[code]
        rows.append(f"| `{code}` | `{kind.__name__}` | {when} | {remedy} |".replace("|  |", "| |"))
    rows += ["", "| class | is also |", "|---|---|"]
    for kind in dict.fromkeys(CLASS_BY_CODE.values()):
        bases = [base.__name__ for base in kind.__mro__[1:] if base not in (BaseException, object)]
        bases.remove("Exception")
        shown = [f"`{name}`" for name in dict.fromkeys(bases)]
        rows.append(f"| `{kind.__name__}` | {', '.join(shown)} |")
    return "\n".join(rows) + "\n"


def descriptions(function: object) -> dict[str, str]:
    """The arguments of a function with what its docstring says of each."""
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
    """The columns of a table with their types; what a column must hold is left out."""
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


PAGES = {"errors.md": errors, "configuration.md": configuration, "database-schema.md": schema}


def outdated() -> dict[Path, str]:
    """The pages that are not current, with what they should be."""
    found: dict[Path, str] = {}
    for name, make in PAGES.items():
        path = REFERENCE / name
        text = path.read_text()
        made = make()
        new = PART.sub(lambda part, made=made: f"{part[1]}\n{made}\n{part[2]}", text)
        if new != text:
            found[path] = new
    return found


def main() -> int:
    """Write the pages, or say which are not current."""
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
