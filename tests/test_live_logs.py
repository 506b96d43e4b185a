"""Captured logs, printed text and progress can be read while the attempt runs."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
import time

import pytest

import cloaca

log = logging.getLogger("live")


@pytest.fixture(autouse=True)
def level(caplog):
    caplog.set_level(logging.INFO, "live")


def capturing(database: str) -> cloaca.DefaultRunner:
    return cloaca.DefaultRunner(database, cloaca.DefaultRunnerConfig(capture_logs=True))


def messages(runner, id: str) -> list[tuple[str, str]]:
    return [(line.logger, line.message) for line in runner.logs(id)]


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"the condition did not become true within {seconds} s"
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_lines_of_a_running_attempt_can_be_read(database, kind):
    release = threading.Event()

    def say():
        log.info("logged")
        print("printed")
        print("to stderr", file=sys.stderr)

    with cloaca.WorkflowBuilder("w"):
        if kind == "thread":

            @cloaca.task
            def a(context):
                say()
                release.wait(60)

        else:

            @cloaca.task
            async def a(context):
                say()
                await asyncio.to_thread(release.wait, 60)

    with capturing(database) as runner:
        handle = runner.submit("w")
        wait_for(lambda: len(handle.logs()) >= 3)
        assert handle.status() == "Running"
        assert sorted(messages(runner, handle.id)) == [
            ("live", "logged"),
            ("stderr", "to stderr"),
            ("stdout", "printed"),
        ]
        release.set()
        handle.result(timeout=60)
        assert len(handle.logs()) == 3


def test_each_line_can_be_read_soon_after_it_is_logged(database):
    steps, seen = threading.Semaphore(0), []
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def a(context):
            for number in range(3):
                log.info("line %d", number)
                seen.append(time.monotonic())
                steps.acquire(timeout=60)

    delays = []
    with capturing(database) as runner:
        handle = runner.submit("w")
        for number in range(3):
            wait_for(lambda n=number: len(handle.logs()) > n)
            delays.append(time.monotonic() - seen[number])
            steps.release()
        handle.result(timeout=60)
    # On an idle machine, each line can be read within 0.25 s. Only the fastest of three lines
    # counts, because a busy machine can delay some lines.
    assert min(delays) < 0.25


def test_printed_text_becomes_lines_and_is_still_printed(database, capsys):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def a(context):
            print("one", end="")
            print(" line")
            print("two\nlines")
            for percent in (10, 100):
                print(f"\r{percent} %", end="")
            print()
            print("no end", end="")
            sys.stdout.writelines(["x\n", "y\n"])

    with capturing(database) as runner:
        id = runner.execute("w").execution_id
        assert [text for _, text in messages(runner, id)] == [
            *("one line", "two", "lines", "100 %", "no endx", "y")
        ]
    printed = capsys.readouterr().out
    assert printed == "one line\ntwo\nlines\n\r10 %\r100 %\nno endx\ny\n"


def test_line_of_a_stream_handler_is_captured_once(database):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def a(context):
            handler = logging.StreamHandler(sys.stderr)
            log.addHandler(handler)
            log.info("once")
            log.removeHandler(handler)

    with capturing(database) as runner:
        id = runner.execute("w").execution_id
        assert messages(runner, id) == [("live", "once")]


def test_printing_outside_tasks_is_not_captured(database):
    before = sys.stdout, sys.stderr
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: print("inside"))
    with capturing(database) as runner:
        print("outside")
        id = runner.execute("w").execution_id
        print("outside")
        assert messages(runner, id) == [("stdout", "inside")]
    assert (sys.stdout, sys.stderr) == before


def test_output_to_a_replaced_stream_is_captured(database, monkeypatch):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: print("inside"))
    with capturing(database) as runner:
        mine = io.StringIO()
        monkeypatch.setattr(sys, "stdout", mine)
        id = runner.execute("w").execution_id
        assert messages(runner, id) == [("stdout", "inside")]
        assert mine.getvalue() == "inside\n"


def test_streams_are_not_wrapped_without_capture(runner):
    before = sys.stdout
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: print("inside"))
    result = runner.execute("w")
    assert sys.stdout is before
    assert runner.logs(result.execution_id) == []


def test_progress_of_a_running_attempt_can_be_read(database):
    release = threading.Event()
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def a(context, handle):
            handle.set_progress(3, 10, "three")
            release.wait(60)

    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("w")
        wait_for(lambda: handle.progress().tasks["a"].message == "three")
        release.set()
        handle.result(timeout=60)
