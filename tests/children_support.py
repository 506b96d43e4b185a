"""Workflows with children and final tasks, and helpers for tests with several processes."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloaca
from processes import PREAMBLE

#: An environment in which scripts can import this module.
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
}

#: The prelude of scripts that share `flags`, an array of bytes, with the test.
FLAGS = PREAMBLE + textwrap.dedent(
    """
    import mmap

    with open("flags", "r+b") as file:
        flags = mmap.mmap(file.fileno(), 0)
    """
)

_SQLITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30)
if sys.argv[2].startswith("SELECT"):
    print(*connection.execute(sys.argv[2]).fetchone())
else:
    connection.executescript(f"BEGIN IMMEDIATE; {sys.argv[2]}; COMMIT")
"""

Note = Callable[..., None]

#: The ways in which a workflow of `define_parents` starts its child.
KINDS = ("node", "code", "map")


def runs_nothing(*words: object) -> None:
    """Fails. The task body for a client that only submits and controls executions."""
    raise AssertionError("a task ran in the client, which must run none")


def define_parents(
    name: str,
    body: Callable[[int], None] = runs_nothing,
    note: Note = runs_nothing,
    *,
    has_final: bool = True,
    **options: Any,
) -> None:
    """Defines a child, and a parent for each kind in `KINDS`.

    Each parent has a task after the child and, by default, a final task.

    Args:
        name: The prefix of the workflows' names.
        body: A function that the child calls with its input `n` before the child ends.
        note: A function that writes a line into the ledger.
        has_final: Whether the parents have the final task.
        options: Options of the nodes.
    """
    inner = f"{name}-inner"

    with cloaca.WorkflowBuilder(inner, input={"n": int}, output="square"):

        @cloaca.task(retry_attempts=1)
        def square(n: int) -> int:
            body(n)
            return n * n

    for kind in KINDS:
        with cloaca.WorkflowBuilder(f"{name}-{kind}"):
            if kind == "code":

                @cloaca.task(id="inner", retry_attempts=1)
                def run(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
                    context["inner"] = handle.run("inner", inner, {"n": context["n"]})

            else:
                over = {"over": "rows"} if kind == "map" else {}
                path = "item" if kind == "map" else "n"
                cloaca.child("inner", workflow=inner, input={"n": path}, **over, **options)

            @cloaca.task(dependencies=["inner"], retry_attempts=1)
            def after(context: cloaca.Context) -> None:
                note("after", context["n"])

            if has_final:

                @cloaca.task(final="always")
                def finish(context: cloaca.Context, error: cloaca.ErrorInfo | None) -> None:
                    note("finish", context["n"], error.type if error else None)


def input_of(n: int) -> dict[str, Any]:
    """Returns the input of a parent that `define_parents` defines."""
    return {"n": n, "rows": [n]}


def share_flags(folder: Path, count: int) -> mmap.mmap:
    """Creates the file `flags` of the prelude `FLAGS`, and maps the file into this process."""
    path = folder / "flags"
    path.write_bytes(bytes(count))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def run_sql(database: str, statements: str) -> str:
    """Runs SQL in another process and returns what it printed.

    Another process is needed, because two copies of SQLite in one process drop each other's locks.
    """
    if database.startswith("sqlite"):
        path = database.removeprefix("sqlite:///")
        command = [sys.executable, "-c", _SQLITE, path, statements]
    else:
        command = ["psql", "--quiet", "--no-psqlrc", "--tuples-only", "--no-align", database]
        command += ["--command", statements]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def count_rows(database: str, table: str) -> int:
    """Returns the number of rows of a table."""
    return int(run_sql(database, f"SELECT count(*) FROM {table}"))


def events_of(
    runner: cloaca.DefaultRunner, execution_id: str, kind: str, task_id: str | None = None
) -> list[cloaca.Event]:
    """Returns an execution's events of one kind; if a task is given, only that task's events."""
    events = runner.events(execution_id)
    return [
        event
        for event in events
        if event.type == kind and (task_id is None or event.task_id == task_id)
    ]


def ordinary_children(
    runner: cloaca.DefaultRunner, execution_id: str
) -> list[cloaca.WorkflowResult]:
    """Returns the children of an execution, except the executions of its final tasks."""
    children = runner.children(execution_id)
    return [child for child in children if not child.workflow_name.endswith("~final")]
