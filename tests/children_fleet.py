"""A workflow with children of each kind, in which functions fail or take longer at random."""

from __future__ import annotations

import random
import time

import cloaca
from children_support import Note, runs_nothing


def work(chance: float) -> None:
    """Fails with the probability `chance`, and sometimes takes up to 50 ms."""
    if random.random() < chance:
        raise ValueError("a random failure")
    if random.random() < 0.1:
        time.sleep(random.random() * 0.05)


def undo() -> None:
    """Compensates the task `plan`. Never fails."""
    work(0.0)


def define_fleet(note: Note = runs_nothing) -> None:
    """Defines the workflow `fleet-parent`, its children and its grandchildren.

    Args:
        note: A function that writes a line into the ledger.
    """
    with cloaca.WorkflowBuilder("fleet-leaf", input={"n": int}, output="leaf"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def leaf(n: int) -> int:
            work(0.2)
            return n

    with cloaca.WorkflowBuilder("fleet-branch", input={"n": int}, output="twig"):
        cloaca.child("twig", workflow="fleet-leaf", retry_attempts=2, retry_delay_ms=1)

        @cloaca.task(final="always", retry_attempts=20, retry_delay_ms=1)
        def sweep() -> None:
            work(0.1)

    with cloaca.WorkflowBuilder("fleet-parent", input={"n": int, "rows": list[int]}):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1, compensate=undo)
        def plan(n: int) -> int:
            work(0.1)
            return n

        cloaca.child("node", workflow="fleet-branch", input={"n": "n"}, dependencies=[plan])
        cloaca.child(
            "pages",
            workflow="fleet-leaf",
            over="rows",
            input={"n": "item"},
            dependencies=[plan],
            parallel=2,
            tolerate=0.5,
        )

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def code(plan: int, handle: cloaca.TaskHandle) -> int:
            one = handle.run("one", "fleet-branch", {"n": plan})
            many = handle.run_many("many", "fleet-leaf", [{"n": plan}] * 2)
            return one + sum(many)

        @cloaca.task(retry_attempts=1)
        def total(node: int, pages: cloaca.MapResult[int], code: int) -> int:
            return node + sum(pages.values()) + code

        @cloaca.task(final="always", retry_attempts=20, retry_delay_ms=1)
        def finish(context: cloaca.Context, error: cloaca.ErrorInfo | None) -> None:
            work(0.1)
            note("finish", context["n"], error.type if error else None)
