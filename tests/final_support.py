"""Workflows with final tasks and compensations, which several tests run."""

from __future__ import annotations

import threading
import time

import cloaca

#: The possible outcomes of the workflow of `define_cluster`.
ENDS = ["success", "failure", "cancelled", "timeout"]


class Ran:
    """Records a text for each function that ran, in the order of the calls."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            self.names.append(name)


def define_cluster(ran: Ran, started: threading.Event, end: str) -> None:
    """Defines a workflow that sets up, uses and tears down a cluster, with the outcome `end`.

    The task `use` sets the event `started`.
    """

    with cloaca.WorkflowBuilder("cluster", input={"size": int}):

        @cloaca.task
        def setup(size: int) -> dict:
            return {"name": f"c{size}"}

        @cloaca.task(retry_attempts=1)
        def use(setup: dict, handle: cloaca.TaskHandle) -> str:
            started.set()
            if end == "failure":
                raise ValueError("no room")
            while end != "success" and not handle.is_cancelled():
                time.sleep(0.01)
            return "used"

        @cloaca.task(final="always", undoes=[setup])
        def teardown(setup: dict | None, use: str | None, error: cloaca.ErrorInfo | None) -> str:
            ran(f"teardown {setup and setup['name']} {use} {error and error.type}")
            return "gone"

        @cloaca.task(final="success")
        def celebrate(context):
            ran(f"celebrate {context['setup']['name']} {context['error']}")

        @cloaca.task(final="failure")
        def alarm(error):
            ran(f"alarm {error.type}")

        @cloaca.task(final="cancelled")
        def apologise(error, teardown: str):
            ran(f"apologise {error.type} {teardown}")


def run_cluster(runner: cloaca.DefaultRunner, started: threading.Event, end: str):
    timeout = 0.3 if end == "timeout" else None
    handle = runner.submit("cluster", {"size": 3}, timeout=timeout)
    if end == "cancelled":
        assert started.wait(30)
        assert handle.cancel()
    return handle, handle.result(timeout=60)


def define_trip(ran: Ran, breaks: str, undo_breaks: str = "") -> None:
    """Defines a travel saga: `flight` and `hotel`, then `car`, `plan`, `insurance` and `mail`.

    Args:
        ran: The record of the compensations that ran.
        breaks: The name of the task that fails; empty if all tasks complete.
        undo_breaks: The name of the task whose compensation fails; empty if none fails.
    """

    def undo(name: str):
        def function(error, handle):
            if undo_breaks == name:
                raise cloaca.Abort("the line is busy")
            ran(f"undo {name} {handle.forward_key.split('/', 1)[1]}")

        return function

    def check(name: str) -> None:
        if breaks == name:
            raise ValueError(f"no {name}")

    with cloaca.WorkflowBuilder("trip"):

        @cloaca.task(retry_attempts=1, compensate=undo("flight"))
        def flight() -> str:
            check("flight")
            return "LX1"

        @cloaca.task(retry_attempts=1, compensate=undo("hotel"))
        def hotel() -> str:
            check("hotel")
            return "Ritz"

        @cloaca.task(retry_attempts=1, compensate=undo("car"), compensate_failed=True)
        def car(flight: str, hotel: str) -> str:
            check("car")
            return "red"

        @cloaca.task(retry_attempts=1)
        def plan(car: str) -> str:
            check("plan")
            return f"plan of {car}"

        @cloaca.task(retry_attempts=1, compensate=undo("insurance"))
        def insurance(plan: str) -> int:
            check("insurance")
            return 5

        @cloaca.task(retry_attempts=1)
        def mail(insurance: int) -> None:
            check("mail")
