"""The log names a coroutine that blocks the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

import cloaca
from cloaca._workers import loop_watch


def held(caplog) -> list[str]:
    told = [record.getMessage() for record in caplog.records]
    return [text for text in told if "has held the event loop" in text]


@pytest.fixture
def short_limit(monkeypatch):
    monkeypatch.setattr(loop_watch, "_LIMIT", 0.2)
    monkeypatch.setattr(loop_watch, "_PAUSE", 0.02)


def test_coroutine_that_holds_the_loop_is_named_once(runner, caplog, short_limit):
    until = time.monotonic() + 20

    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def blocks(context):
            await asyncio.sleep(0)
            while not held(caplog) and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.3)

    with caplog.at_level(logging.WARNING, "cloaca"):
        first = runner.execute("w")
        runner.execute("w")
    (text,) = held(caplog)
    assert text.startswith(
        "coroutine 'blocks' of workflow 'w' has held the event loop for 0.2 s at "
    )
    assert __file__ in text
    assert text.endswith(f"[execution {first.execution_id}]")


def test_waiting_coroutines_are_not_named(runner, caplog, short_limit):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def waits(context):
            await asyncio.sleep(0.6)

    with caplog.at_level(logging.WARNING, "cloaca"):
        runner.execute("w")
    assert held(caplog) == []


def test_watching_thread_ends_when_the_runner_stops():
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def a(context):
            pass

    with cloaca.DefaultRunner(":memory:") as runner:
        runner.execute("w")
    names = {thread.name for thread in threading.enumerate()}
    assert "cloaca-loop-watch" not in names
