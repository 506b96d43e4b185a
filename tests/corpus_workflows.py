"""The workflow of the databases in `tests/corpus`. Later releases run it, so do not change it."""

from __future__ import annotations

import cloaca


def define(on_hold=None) -> None:
    """Defines the workflow. If the input says `hold`, task `held` calls `on_hold`, which blocks.

    The process that creates a database is killed while task `held` is blocked.
    """
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
