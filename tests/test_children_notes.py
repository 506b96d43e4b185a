"""Two runners share the inbox, and apply each message for a child once (semantics M2, M4, M6)."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import cloaca
from children_support import ENVIRONMENT, events_of
from conftest import Script
from processes import PREAMBLE, Ledger, until

#: The number of children of each parent.
CHILDREN = 10
PARENTS = 3
ROUNDS = 40

RUNNER = PREAMBLE + textwrap.dedent(
    """
    import logging
    from test_children_notes import define_notes

    logging.getLogger("cloaca").setLevel(logging.CRITICAL)
    define_notes()
    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        note("ready")
        wait_for("stop")
    """
)


def define_notes() -> None:
    """Defines parents whose children wait for a signal, and parents whose children fail."""
    with cloaca.WorkflowBuilder("noted-waits"):
        cloaca.wait("come", wait_for=cloaca.signal("come"))
    with cloaca.WorkflowBuilder("noted-fails"):

        @cloaca.task(retry_attempts=1)
        def fails(context: cloaca.Context) -> None:
            raise ValueError("no")

    for name in ("waits", "fails"):
        with cloaca.WorkflowBuilder(f"noted-parent-{name}"):
            for number in range(CHILDREN):
                cloaca.child(f"c{number}", workflow=f"noted-{name}")


@contextlib.contextmanager
def two_runners(script: Script, database: str, folder: Path) -> Iterator[cloaca.DefaultRunner]:
    """Starts two runner processes, and yields a client that runs no tasks."""
    define_notes()
    processes = [script(RUNNER, database, **ENVIRONMENT) for _ in range(2)]
    Ledger(folder).wait("ready", 2)
    with cloaca.DefaultRunner(database, start=False) as client:
        yield client
    (folder / "stop").touch()
    for process in processes:
        assert process.communicate(timeout=60) == ("", "")


def children_of(
    client: cloaca.DefaultRunner, parents: list[cloaca.WorkflowHandle]
) -> list[cloaca.WorkflowResult]:
    return [child for parent in parents for child in client.children(parent.id)]


def test_m4_resumed_parents_leave_no_child_paused(database, script, tmp_path):
    with two_runners(script, database, tmp_path) as client:
        for _ in range(ROUNDS):
            parents = [client.submit("noted-parent-waits") for _ in range(PARENTS)]
            for parent in parents:
                parent.pause()
                parent.resume()

            def are_resumed(parents: list[cloaca.WorkflowHandle] = parents) -> bool:
                children = children_of(client, parents)
                return all(child.status in {"Pending", "Running"} for child in children)

            until("no child is paused", are_resumed, 20)
            for child in children_of(client, parents):
                assert len(events_of(client, child.execution_id, "paused")) <= 1
            for parent in parents:
                parent.cancel()


def test_m6_retry_of_a_parent_reruns_each_failed_child_once(database, script, tmp_path):
    with two_runners(script, database, tmp_path) as client:
        parents = [client.submit("noted-parent-fails") for _ in range(PARENTS)]
        for number in range(1, ROUNDS + 1):
            for parent in parents:
                assert parent.result(timeout=60).status == "Failed"
            for parent in parents:
                parent.retry()
            for parent in parents:
                assert parent.result(timeout=60).status == "Failed"
            time.sleep(0.05)  # Leaves time in which another runner could retry a child again.
            for child in children_of(client, parents):
                assert len(events_of(client, child.execution_id, "retried")) == number
