"""The progress of tasks is visible to other threads, processes, terminals and notebooks."""

from __future__ import annotations

import io
import sys
import threading
import time

import pytest

import cloaca
from cloaca._observe.progress_bars import Bars, _Printed

#: Maximum time for each wait, in seconds.
PATIENCE = 30


def until(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)  # Progress is written a few times a second, not at once.
    return found


@pytest.fixture
def halfway(runner):
    """An execution whose task reports that half of its work is done, and then waits for an event.

    The fixture's value is the execution's handle and the event.
    """
    go_on = threading.Event()
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="copy")
        def copy(context, handle):
            handle.set_progress(1, 8)
            handle.set_progress(4, 8, "file <4>")
            go_on.wait(PATIENCE)

        cloaca.task(id="after", dependencies=["copy"])(lambda context: None)

    handle = runner.submit("w")
    until(lambda: handle.status() == "Running")
    yield handle, go_on
    go_on.set()


def test_progress_can_be_read_while_the_task_runs(runner, halfway, database):
    handle, go_on = halfway
    progress = until(lambda: (found := handle.progress()).tasks["copy"].done == 4 and found)
    copy = progress.tasks["copy"]
    assert (copy.status, copy.total, copy.message, copy.fraction) == ("Running", 8, "file <4>", 0.5)
    assert progress.tasks["after"].fraction == 0
    assert progress.fraction == 0.25
    assert progress["Running"] == progress["Pending"] == 1
    assert sum(progress.values()) == 2
    assert "'copy' Running 4 of 8" in repr(copy)
    # Another process would read the progress from the database, as this inspector does.
    (seen,) = cloaca._core.Inspector(database).reads.progress(handle.id).tasks
    assert (seen.task_id, seen.attempt) == ("copy", 1)
    assert (seen.done, seen.total, seen.message) == (4.0, 8.0, "file <4>")
    go_on.set()
    handle.result(PATIENCE)
    assert handle.progress().fraction == 1


def test_progress_of_an_earlier_attempt_is_not_shown(runner):
    started, go_on = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a", retry_attempts=2, retry_delay_ms=1)
        def a(context, handle):
            if handle.attempt == 1:
                handle.heartbeat(0.9)
                until(lambda: runner._core.reads.progress(handle.execution_id).tasks)
                raise ValueError
            started.set()
            go_on.wait(PATIENCE)

    handle = runner.submit("w")
    assert started.wait(PATIENCE)
    task = handle.progress().tasks["a"]
    assert (task.attempts, task.done, task.fraction) == (2, None, 0)
    go_on.set()
    handle.result(PATIENCE)


def test_progress_accepts_a_percentage_and_any_text(runner):
    seen: list[tuple[float, float, str]] = []
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a", retry_attempts=1)
        def a(context, handle):
            handle.heartbeat(50)
            reads = runner._core.reads
            (found,) = until(lambda: reads.progress(handle.execution_id).tasks)
            seen.append((found.done, found.total, found.message))
            handle.set_progress(3, 4, "nul \0, half \ud800")

    handle = runner.submit("w")
    assert handle.result(PATIENCE).raise_for_status()
    assert seen == [(50, 100, None)]
    # The last report is written shortly after the task ends.
    task = until(lambda: (told := handle.progress().tasks["a"]).message and told)
    assert (task.done, task.total, task.message) == (3, 4, "nul \ufffd, half ?")


def test_frequent_progress_reports_are_written_a_few_times_a_second(runner):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a")
        def a(context, handle):
            for number in range(20_000):
                handle.set_progress(number, 20_000)

    begin = time.monotonic()
    assert runner.execute("w").status == "Completed"
    # Writing each report separately would take tens of seconds.
    assert time.monotonic() - begin < 10


def show(bars, report):
    bars.show(report.execution, report.tasks)


def test_bars_show_each_task(runner, halfway):
    from rich.console import Console

    handle, go_on = halfway
    read = runner._core.reads.progress
    until(lambda: read(handle.id).tasks)
    console = Console(file=io.StringIO(), force_terminal=True, width=120, record=True)
    with Bars(console) as bars:
        show(bars, read(handle.id))
        go_on.set()
        handle.result(PATIENCE)
        show(bars, read(handle.id))
    shown = console.export_text()
    assert "copy" in shown
    assert "Completed" in shown


def test_bars_pulse_for_running_tasks_and_show_when_retries_are_due(runner):
    from rich.console import Console

    go_on = threading.Event()
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def busy(context):
            go_on.wait(PATIENCE)

        @cloaca.task(retry_attempts=2, retry_delay_ms=100_000)
        def refused(context):
            raise ConnectionError("no way in")

        @cloaca.task(dependencies=[busy])
        def waiting(context):
            pass

    handle = runner.submit("w")
    read = runner._core.reads.progress

    def is_settled():
        tasks = handle.progress().tasks
        return tasks["busy"].status == "Running" and tasks["refused"].status == "Ready"

    # Waits for the retry first, because a prefetched task that has not started is also Ready.
    until(lambda: "task_retrying" in {event.type for event in handle.events()})
    until(is_settled)
    bars = Bars(Console(file=io.StringIO(), force_terminal=True, width=80, record=True))
    show(bars, read(handle.id))
    moves = {row.name: bar.pulse for row, bar in zip(bars._rows, _bars_of(bars), strict=True)}
    assert moves == {"busy": True, "refused": False, "waiting": False}
    bars._console.print(bars.drawing())
    lines = bars._console.export_text().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    (line,) = [line for line in lines if "refused" in line]
    assert "again in 1 min " in line
    assert "ConnectionError" in line
    go_on.set()
    handle.cancel()


def _bars_of(bars):
    return list(bars.drawing().columns[1].cells)


def test_text_that_tasks_print_stays_above_the_bars(runner, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def talk(context):
            print("half a line, ", end="", flush=True)
            print("the other half")
            print("without an end", end="")

    assert runner.execute("w", progress=True).status == "Completed"
    assert "half a line, the other half" in screen.getvalue()
    assert "without an end" in screen.getvalue()
    assert (sys.stdout, sys.stderr) == (screen, screen)


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_streams_are_restored_after_bars_while_prints_are_captured(database, monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    kept = []
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def wait_for_the_bars(context):
            until(lambda: isinstance(sys.stdout.stream, _Printed))

        @cloaca.task(dependencies=[wait_for_the_bars])
        def talk(context):
            kept.append(sys.stdout)
            print("told by a task")
            print("without an end", end="")

    config = cloaca.DefaultRunnerConfig(capture_logs=True)
    with cloaca.DefaultRunner(database, config) as runner:
        result = runner.execute("w", progress=True)
        lines = [line.message for line in runner.logs(result.execution_id)]
        print("after the bars", end="")
        assert screen.getvalue().endswith("after the bars")
    assert lines == ["told by a task", "without an end"]
    assert (sys.stdout, sys.stderr) == (screen, screen)
    kept[0].write("kept")
    assert screen.getvalue().endswith("kept")


def test_streams_are_restored_when_capture_ends_while_bars_are_shown(database, monkeypatch):
    from rich.console import Console

    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    config = cloaca.DefaultRunnerConfig(capture_logs=True)
    runner = cloaca.DefaultRunner(database, config)
    with Bars(Console(file=io.StringIO(), force_terminal=True)):
        assert sys.stdout is not screen
        runner.shutdown()
        with cloaca.DefaultRunner(database, config), Bars(Console(file=io.StringIO())):
            print("in two bars")
    assert (sys.stdout, sys.stderr) == (screen, screen)


def test_a_large_workflow_has_a_single_bar(runner):
    from rich.console import Console

    with cloaca.WorkflowBuilder("large"):
        for number in range(40):
            cloaca.task(id=f"t{number}")(lambda context: None)
    result = runner.execute("large")
    console = Console(file=io.StringIO(), force_terminal=True, width=120, record=True)
    with Bars(console) as bars:
        show(bars, runner._core.reads.progress(result.execution_id))
    shown = console.export_text()
    assert "large" in shown
    assert "40 of 40 tasks" in shown


def test_execute_with_progress_is_quiet_without_a_terminal(runner, capfd):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)
    assert runner.execute("w", progress=True).status == "Completed"
    assert capfd.readouterr() == ("", "")


def test_execute_with_progress_draws_on_a_terminal(runner, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="load")(lambda context: None)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    result = runner.execute("w", progress=True)
    monkeypatch.undo()
    assert result.status == "Completed"
    assert "load" in screen.getvalue()


def test_notebooks_show_results_handles_and_pages(runner, halfway):
    handle, go_on = halfway
    assert "Running" in handle._repr_html_()
    go_on.set()
    result = handle.result(PATIENCE)
    shown = result._repr_html_()
    assert "<b>w</b>" in shown
    assert "copy" in shown
    assert result.execution_id in runner.list_executions()._repr_html_()

    with cloaca.WorkflowBuilder("bad"):

        @cloaca.task(id="a", retry_attempts=1)
        def a(context):
            raise ValueError("<script>")

    shown = runner.execute("bad")._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
