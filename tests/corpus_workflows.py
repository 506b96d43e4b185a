"""Workflows in the databases of the corpus. Later releases run them: do not change them."""

from __future__ import annotations

import cloaca


def define(on_hold=None) -> None:
    """Defines the workflow. Tasks that are running when the process is killed call `on_hold`."""
    with cloaca.WorkflowBuilder("corpus"):

        @cloaca.task()
        def first(context):
            context["first"] = context["number"] * 10

        @cloaca.task(dependencies=[first])
        def held(context):
            if on_hold is not None and context.get("hold"):
                on_hold()
            context["held"] = context["first"] + 1

        @cloaca.task(dependencies=[first], retry_attempts=3, retry_delay_ms=500)
        def flaky(context, handle):
            if context.get("flaky") and handle.attempt == 1:
                raise ConnectionError("not yet")
            context["attempt"] = handle.attempt

        @cloaca.task(dependencies=[first], retry_attempts=1)
        def broken(context):
            if context.get("broken"):
                raise ValueError("on purpose")

        @cloaca.task(dependencies=[held, flaky, broken], trigger_rules=cloaca.always())
        def last(context):
            context["last"] = True
