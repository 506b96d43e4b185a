"""Helpers for tests of schedules and triggers."""

from __future__ import annotations

import time
from datetime import datetime

import cloaca


def define(name: str, body=lambda context: None) -> None:
    with cloaca.WorkflowBuilder(name):
        cloaca.task(id="only")(body)


def until(fact, seconds: float = 30):
    """Polls until `fact` returns a true value; returns this value. Fails after `seconds`.

    Tests poll because no event signals the writes of other threads.
    """
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, f"the condition did not become true within {seconds} s"
        time.sleep(0.01)
    return found


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)
