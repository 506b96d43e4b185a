"""Helpers of the tests of schedules and triggers."""

from __future__ import annotations

import time
from datetime import datetime

import cloaca


def define(name: str, body=lambda context: None) -> None:
    with cloaca.WorkflowBuilder(name):
        cloaca.task(id="only")(body)


def until(fact, seconds: float = 30):
    """Polls for a condition, because writes of another thread do not signal an event."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, "never"
        time.sleep(0.01)
    return found


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)
