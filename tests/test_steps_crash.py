"""Steps of tasks, with a crash at every transaction and under a virtual clock (semantics T)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

import cloaca
from cloaca.testing import VirtualRunner, crash_everywhere


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t2_no_recorded_step_runs_again_after_a_crash(kind):
    calls: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def call(name):
        calls[name] += 1
        return name

    if kind == "sync":

        @cloaca.workflow
        def agent(handle):
            return [handle.step(name, call, name) for name in "abc"]
    else:

        @cloaca.workflow
        async def agent(handle):
            first = await handle.step("a", call, "a")
            return [
                first,
                *await asyncio.gather(handle.step("b", call, "b"), handle.step("c", call, "c")),
            ]

    def setup():
        for name, count in calls.items():
            most[name] = max(most[name], count)
        calls.clear()

    report = crash_everywhere("agent", setup=setup)
    setup()
    # One transaction can record several gathered steps.
    assert len(report.points) >= (8 if kind == "sync" else 6)
    # A step that ran during the crash runs again. No step runs a third time.
    assert set(most) == set("abc")
    assert max(most.values()) == 2


def test_t3_retry_of_a_step_waits_in_virtual_time():
    policy = cloaca.RetryPolicy(max_attempts=3, initial_delay=10)
    tries = []

    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("down")
        return len(tries)

    @cloaca.workflow(timeout=3600)
    def patient(handle):
        return handle.step("flaky", flaky, retry=policy)

    start = time.monotonic()
    with VirtualRunner() as runner:
        assert runner.execute("patient").output == 3
    assert time.monotonic() - start < 30
