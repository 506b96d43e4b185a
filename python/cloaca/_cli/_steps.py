"""The recorded steps of an execution's tasks, for `show`."""

from __future__ import annotations

from datetime import timedelta

from cloaca._cli._output import duration_text, iso, note, one_line, print_table
from cloaca._executions.history import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._core import Reads

# Number of steps that are shown without -v: the most recent ones.
_SHOWN = 20


def recorded_steps(reads: Reads, execution_id: str) -> list[Event]:
    """Returns the events of an execution's recorded steps, oldest first."""
    events = reads.events(execution_id)
    return [Event(record) for record in events if record.type == "step_recorded"]


def step_document(step: Event) -> dict[str, Any]:
    """Returns a recorded step for `--json`."""
    data = step.data
    return {
        "task_id": step.task_id,
        "key": data["key"],
        "kind": data["kind"],
        "attempt": step.attempt,
        "ended_at": iso(step.time),
        "duration_seconds": data["duration_us"] / 1_000_000,
        "value": data.get("value"),
    }


def print_steps(steps: list[Event], *, verbose: bool) -> None:
    """Prints recorded steps as a table; prints nothing if there are no steps."""
    import json

    if not steps:
        return
    shown = steps if verbose else steps[-_SHOWN:]
    print_table(
        ("step", "task", "duration", "value"),
        (
            [
                one_line(step.data["key"]),
                step.task_id or "",
                duration_text(timedelta(microseconds=step.data["duration_us"])),
                json.dumps(step.data["value"], ensure_ascii=False)
                if "value" in step.data
                else f"{step.data['value_bytes']} bytes",
            ]
            for step in shown
        ),
        cut=("value", "step", "task"),
        verbose=verbose,
    )
    if len(shown) < len(steps):
        note(f"{len(steps) - len(shown)} earlier steps: -v shows them")
