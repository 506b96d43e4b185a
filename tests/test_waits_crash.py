"""A workflow with every kind of wait survives a crash at every transaction (semantics L, T)."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest

import cloaca
from cloaca.testing import crash_everywhere


def define_everything(calls: Counter[str]) -> None:
    """Defines a workflow with steps and waits in a function, and with declared waits.

    `calls` receives the number of calls of each step.
    """

    def call(name: str) -> str:
        calls[name] += 1
        return name

    with cloaca.WorkflowBuilder("everything", output="end"):

        @cloaca.task(id="agent")
        def agent(context, handle: cloaca.TaskHandle) -> None:
            steps = [handle.step("first", call, "first")]
            handle.sleep("a minute", "1m")
            steps.append(handle.step("second", call, "second"))
            steps.append(handle.wait("answer", cloaca.signal("answer"), timeout="1d"))
            context["steps"] = [*steps, handle.step("third", call, "third")]

        @cloaca.task(id="paid_order", wait_for=cloaca.signal("paid"), wait_timeout="1d")
        def paid_order(paid: int) -> int:
            return paid

        cloaca.approval("release", timeout="1d")
        cloaca.wait(
            "both",
            wait_for=cloaca.all_of(cloaca.delay("30s"), cloaca.signal("go")),
            timeout="1d",
        )
        cloaca.wait("nothing", wait_for=cloaca.signal("never"), timeout="2m", on_timeout="continue")

        @cloaca.task(id="customer")
        def customer(handle: cloaca.TaskHandle) -> None:
            """Sends three signals and approves. If it runs twice, the second run has no effect."""
            mine = handle.execution_id
            for name, data in [("paid", 3), ("go", "now"), ("answer", "yes")]:
                handle.runner.send(name, data, to=mine, id=f"{name}-{mine}")
            with contextlib.suppress(cloaca.AlreadyDecidedError):
                handle.runner.approve(mine, "release", {"limit": 5}, by="ann")

        @cloaca.task(
            id="end", dependencies=["agent", "paid_order", "release", "both", "nothing", "customer"]
        )
        def end(context) -> None:
            release = context["release"]
            context["end"] = [
                context["steps"],
                context["paid_order"],
                [release["approved"], release["data"], release["by"]],
                context["both"],
            ]


def test_crash_around_waits_does_not_change_the_result() -> None:
    calls: Counter[str] = Counter()
    most: Counter[str] = Counter()
    define_everything(calls)

    def setup() -> None:
        # Runs before each run of the workflow, and stores the counts of the run before.
        for name, count in calls.items():
            most[name] = max(most[name], count)
        calls.clear()

    report = crash_everywhere("everything", setup=setup)
    setup()
    # Waits that end at the same time can share a transaction, so the number of points varies.
    assert len(report.points) >= 24
    # A step whose transaction was lost runs again. No step runs a third time.
    assert set(most) == {"first", "second", "third"}
    assert max(most.values()) == 2


def test_crash_everywhere_reports_an_approval_decided_twice(monkeypatch) -> None:
    from cloaca._testing import crash

    define_everything(Counter())
    monkeypatch.setattr(crash, "_left_over", lambda *_: ["'release' was decided 2 times"])
    with pytest.raises(AssertionError, match="'release' was decided 2 times"):
        crash_everywhere("everything")
