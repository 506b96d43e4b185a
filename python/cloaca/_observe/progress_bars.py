"""A live bar for each task of an execution, on a terminal or in a notebook."""

from __future__ import annotations

import sys

from cloaca._executions.progress import ExecutionProgress
from cloaca._executions.result import WorkflowResult
from cloaca._executions.status import WorkflowStatus
from cloaca._observe.stream_layers import Layer, below_outermost, layers, put, remove
from cloaca._values.visible_text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from cloaca import _core
    from cloaca._executions.progress import TaskProgress

# Microseconds between two refreshes; a shorter interval makes no visible difference.
_REFRESH_US = 100_000
# Maximum number of tasks that have one bar each. If there are more tasks, one bar shows them all.
_MAX_BARS = 25

_STREAMS = ("stdout", "stderr")
_STYLES = {
    "Completed": "green",
    "Failed": "red",
    "Skipped": "dim",
    "Cancelled": "yellow",
    "Running": "cyan",
}


def is_shown() -> bool:
    """Returns whether bars can be shown: stderr is a terminal, or this is a notebook."""
    try:
        return sys.stderr.isatty() or "ipykernel" in sys.modules
    except (AttributeError, ValueError):
        return False  # there is no stderr, or it is closed


def follow(
    core: _core.Runner,
    execution_id: str,
    check: Callable[[], None] | None = None,
    *,
    shows_bars: bool,
) -> WorkflowResult:
    """Waits for the end of a runner's execution and of its final tasks.

    Args:
        core: The runner.
        execution_id: The id of the execution.
        check: Called every 100 ms; ends the wait by raising an exception.
        shows_bars: Whether the wait for the execution shows bars.
    """
    if shows_bars:
        with Bars() as bars:

            def refresh() -> None:
                report = core.reads.progress(execution_id)
                bars.show(report.execution, report.tasks)
                if check is not None:
                    check()

            ended = _ended(core, execution_id, refresh)
            bars.show(ended, [])
    else:
        ended = _ended(core, execution_id, check)
    result = WorkflowResult(ended)
    if ended.final_id is not None:
        result._final = WorkflowResult(_ended(core, ended.final_id, check))
    return result


def _ended(core: _core.Runner, id: str, check: Callable[[], None] | None) -> _core.Execution:
    """Waits for the end of one execution, and calls `check` every 100 ms."""
    interval = None if check is None else _REFRESH_US
    while (ended := core.wait(id, interval)) is None:
        if check is not None:
            check()
    return ended


class Bars:
    """The bars of one execution, as a context manager. The last drawing stays on the screen.

    Until a running task first reports progress, its bar moves back and forth. Text that is printed
    while the bars are shown appears above them, line by line.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = console or Console(stderr=True)
        self._rows: list[_BarLine] = []
        # `_Printed` redirects the lines that tasks print; rich would print all of them on stderr.
        self._live = Live(
            console=self._console,
            get_renderable=self.drawing,
            redirect_stdout=False,
            redirect_stderr=False,
            refresh_per_second=10,
            vertical_overflow="ellipsis",
        )
        self._printed: list[_Printed] = []

    def __enter__(self) -> Bars:
        self._live.start()
        self._redirect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()
        for printed in self._printed:
            printed.end()
        self._live.stop()

    def show(
        self,
        execution: _core.Execution,
        reported: list[_core.ProgressRecord],
    ) -> None:
        """Draws the current state of an execution."""
        progress = ExecutionProgress(execution, reported)
        if len(progress.tasks) > _MAX_BARS:
            status = WorkflowStatus(execution.status)
            ended = sum(task.status.is_terminal for task in progress.tasks.values())
            words = f"{ended} of {len(progress.tasks)} tasks"
            times = (execution.started_at_us, execution.ended_at_us)
            self._rows = [
                _BarLine(execution.workflow_name, status, progress.fraction, times, words)
            ]
            return
        rows = []
        for record in execution.tasks():
            task = progress.tasks[record.task_id]
            times = (record.started_at_us, record.ended_at_us)
            is_known = task.status.is_terminal or task.done is not None
            fraction = task.fraction if is_known else None
            rows.append(_BarLine(task.task_id, task.status, fraction, times, _words(record, task)))
        self._rows = rows

    def drawing(self) -> Any:
        """Return the bars in their current state, as a table of rich."""
        from rich.cells import cell_len
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        width = self._console.width
        names = max((cell_len(visible(row.name)) for row in self._rows), default=0)
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", width=min(names, width // 4))
        table.add_column(width=30 if width > 100 else 16)
        table.add_column(no_wrap=True, width=9)
        table.add_column(no_wrap=True, width=8, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in self._rows:
            is_moving = row.fraction is None and row.status == "Running"
            bar = ProgressBar(total=1.0, completed=row.fraction or 0.0, pulse=is_moving)
            state = Text(str(row.status), style=_STYLES.get(row.status, ""))
            table.add_row(
                Text(visible(row.name)),
                bar,
                state,
                Text(_elapsed(row)),
                Text(" ".join(visible(row.words).split())),
            )
        return table

    def _redirect(self) -> None:
        """Redirects the streams, so that printed text appears above the bars."""
        known = [stream for name in _STREAMS for stream in (getattr(sys, name), *_streams(name))]
        for name in _STREAMS:
            stream = below_outermost(name)
            through = self._through(stream)
            if through is not stream:
                put(name, through)
        logging = sys.modules.get("logging")
        self._handlers = []
        for reference in list(getattr(logging, "_handlerList", ())):
            handler = reference()
            stream = getattr(handler, "stream", None)
            if stream is None or not hasattr(handler, "setStream"):
                continue
            # A logging handler that writes to a layer of the stream is already redirected.
            if not isinstance(stream, Layer) and any(stream is one for one in known):
                self._handlers.append((handler, stream))
                handler.setStream(self._through(stream))

    def _through(self, stream: Any) -> Any:
        """Return a stream that prints above the bars if `stream` is a terminal, else `stream`."""
        if stream is None or not _is_terminal(stream):
            return stream
        known = next((one for one in self._printed if one.stream is stream), None)
        if known is None:
            known = _Printed(stream, self._console)
            self._printed.append(known)
        return known

    def _restore(self) -> None:
        for handler, stream in self._handlers:
            handler.setStream(stream)
        # A stream that a task has set in the meantime is kept.
        for name in _STREAMS:
            for printed in self._printed:
                remove(name, printed)


class _BarLine:
    """The contents of a line: a bar and its texts."""

    def __init__(
        self,
        name: str,
        status: str,
        fraction: float | None,
        times: tuple[int | None, int | None],
        words: str,
    ) -> None:
        self.name = name
        self.status = status
        #: The part of the work that is done, 0 to 1. `None` for a task that has not ended, and has
        #: not reported progress.
        self.fraction = fraction
        self.times = times
        self.words = words


class _Printed(Layer):
    """A layer over a terminal's stream. It prints lines above the bars.

    A line is printed when it is complete, because the bars would overwrite an incomplete line.
    """

    def __init__(self, stream: Any, console: Any) -> None:
        from threading import RLock

        super().__init__(stream)
        self._console = console
        self._lock = RLock()
        self._begun = ""
        self._has_ended = False

    @property
    def rich_proxied_file(self) -> Any:
        """The stream that rich writes to."""
        return self.stream

    def write(self, text: str) -> int:
        """Prints the complete lines, and keeps an incomplete last line."""
        with self._lock:
            if self._has_ended:
                self.stream.write(text)
                return len(text)
            *lines, self._begun = (self._begun + text).split("\n")
            if lines:
                self._print("\n".join(lines))
        return len(text)

    def flush(self) -> None:
        """Flushes the stream if the bars have ended; until then, there is nothing to flush."""
        if self._has_ended:
            self.stream.flush()

    def end(self) -> None:
        """Prints an incomplete last line. Later text is written directly to the stream.

        Code that has kept a reference to this layer can still print to it.
        """
        with self._lock:
            if self._begun:
                self._print(self._begun)
                self._begun = ""
            self._has_ended = True

    def _print(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text.from_ansi(text), soft_wrap=True)


def _streams(name: str) -> list[Any]:
    """Returns the streams below the layers of a stream of `sys`."""
    return [layer.stream for layer in layers(name)]


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def _words(record: _core.TaskRecord, task: TaskProgress) -> str:
    """Returns the text beside a bar."""
    error = record.error
    error_text = (
        "" if error is None else f"{error.type}: {error.message}" if error.message else error.type
    )
    if task.status == "Failed":
        return error_text
    if task.status == "Skipped":
        return record.skip_reason or ""
    if task.status == "Ready" and record.due_at_us is not None:
        from cloaca._core import now_us

        seconds = (record.due_at_us - now_us()) / 1_000_000
        if seconds > 0 and record.attempts:
            return (
                f"again in {_seconds(seconds)}: {error_text}"
                if error_text
                else f"again in {_seconds(seconds)}"
            )
        if seconds > 0:
            return f"starts in {_seconds(seconds)}"
    words = task.message or ""
    return f"attempt {task.attempts} {words}" if task.attempts > 1 else words


def _seconds(seconds: float) -> str:
    """Formats a duration in whole seconds or minutes, rounded up so that it is never 0."""
    whole = int(-(-seconds // 1))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def _elapsed(row: _BarLine) -> str:
    """Formats the time for which a task has been running, or ran until it ended."""
    start, end = row.times
    if start is None or row.status in {"Pending", "Ready"}:
        return ""
    if end is None:
        from cloaca._core import now_us

        end = now_us()
    seconds = max(0, end - start) // 1_000_000
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
