"""A live bar for each task of an execution, on a terminal or in a notebook."""

from __future__ import annotations

import sys

from cloaca._executions.progress import ExecutionProgress
from cloaca._executions.result import WorkflowResult
from cloaca._executions.status import WorkflowStatus
from cloaca._values.visible_text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from cloaca import _core
    from cloaca._executions.progress import TaskProgress

# Microseconds between two refreshes: a shorter interval makes no visible difference.
_REFRESH_US = 100_000
# More tasks than this are shown as one bar.
_MAX_BARS = 25

_STYLES = {
    "Completed": "green",
    "Failed": "red",
    "Skipped": "dim",
    "Cancelled": "yellow",
    "Running": "cyan",
}


def is_shown() -> bool:
    """Whether bars are visible: stderr is a terminal, or this is a notebook."""
    try:
        return sys.stderr.isatty() or "ipykernel" in sys.modules
    except (AttributeError, ValueError):
        return False  # no stderr, or one that is closed


def follow(core: _core.Runner, execution_id: str) -> WorkflowResult:
    """Waits for the end of an execution of a runner, with bars if they are visible."""
    if not is_shown():
        ended = core.wait(execution_id, None)
        assert ended is not None
        return WorkflowResult(ended)
    with Bars() as bars:
        while (ended := core.wait(execution_id, _REFRESH_US)) is None:
            report = core.reads.progress(execution_id)
            bars.show(report.execution, report.tasks)
        bars.show(ended, [])
    return WorkflowResult(ended)


class Bars:
    """The bars of one execution. A context manager: they stay as they were at its end.

    The bar of a running task moves, that of a waiting one stands still. Times are those of the
    tasks. What is printed meanwhile appears above the bars, line by line.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = console or Console(stderr=True)
        self._rows: list[_Row] = []
        # The lines that tasks print go through `_Printed`, which keeps to its own stream.
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
        for printed in self._printed:
            printed.close_line()
        self._restore()
        self._live.stop()

    def show(
        self,
        execution: _core.Execution,
        reported: list[_core.ProgressRecord],
    ) -> None:
        """Draws an execution as it is now."""
        progress = ExecutionProgress(execution, reported)
        if len(progress.tasks) > _MAX_BARS:
            status = WorkflowStatus(execution.status)
            ended = sum(task.status.is_terminal for task in progress.tasks.values())
            words = f"{ended} of {len(progress.tasks)} tasks"
            times = (execution.started_at_us, execution.ended_at_us)
            self._rows = [_Row(execution.workflow_name, status, progress.fraction, times, words)]
            return
        rows = []
        for record in execution.tasks():
            task = progress.tasks[record.task_id]
            times = (record.started_at_us, record.ended_at_us)
            is_known = task.status.is_terminal or task.done is not None
            fraction = task.fraction if is_known else None
            rows.append(_Row(task.task_id, task.status, fraction, times, _words(record, task)))
        self._rows = rows

    def drawing(self) -> Any:
        """The bars as they are, for rich to print once."""
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
        """Lets what tasks print appear above the bars."""
        self._streams = (sys.stdout, sys.stderr)
        sys.stdout, sys.stderr = map(self._through, self._streams)
        logging = sys.modules.get("logging")
        self._handlers = []
        for reference in list(getattr(logging, "_handlerList", ())):
            handler = reference()
            stream = getattr(handler, "stream", None)
            if stream is not None and stream in self._streams and hasattr(handler, "setStream"):
                self._handlers.append((handler, stream))
                handler.setStream(self._through(stream))

    def _through(self, stream: Any) -> Any:
        """A stream that prints above the bars, if the stream is a terminal as the bars are."""
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
        # A task may have put another stream there, which stays.
        if sys.stdout in self._printed:
            sys.stdout = self._streams[0]
        if sys.stderr in self._printed:
            sys.stderr = self._streams[1]


class _Row:
    """The contents of a line with a bar."""

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
        #: From 0 to 1; `None` if a task runs and said nothing.
        self.fraction = fraction
        self.times = times
        self.words = words


class _Printed:
    """A stream of a terminal whose lines are printed above the bars.

    A line is printed once it ends, since the bars would overwrite its beginning.
    """

    def __init__(self, stream: Any, console: Any) -> None:
        from threading import RLock

        self.stream = stream
        self._console = console
        self._lock = RLock()
        self._begun = ""

    @property
    def rich_proxied_file(self) -> Any:
        """The stream that rich itself writes to."""
        return self.stream

    def write(self, text: str) -> int:
        """Prints the lines that end, and keeps the rest."""
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            if lines:
                self._print("\n".join(lines))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Keeps the beginning of a line back; the rest is printed already."""

    def close_line(self) -> None:
        """Prints the beginning of a line that has no end."""
        with self._lock:
            if self._begun:
                self._print(self._begun)
                self._begun = ""

    def _print(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text.from_ansi(text), soft_wrap=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def _words(record: _core.TaskRecord, task: TaskProgress) -> str:
    """The words beside a bar."""
    error = record.error
    told = (
        "" if error is None else f"{error.type}: {error.message}" if error.message else error.type
    )
    if task.status == "Failed":
        return told
    if task.status == "Skipped":
        return record.skip_reason or ""
    if task.status == "Ready" and record.due_at_us is not None:
        from cloaca._core import now_us

        seconds = (record.due_at_us - now_us()) / 1_000_000
        if seconds > 0 and record.attempts:
            return (
                f"again in {_seconds(seconds)}: {told}" if told else f"again in {_seconds(seconds)}"
            )
        if seconds > 0:
            return f"starts in {_seconds(seconds)}"
    words = task.message or ""
    return f"attempt {task.attempts} {words}" if task.attempts > 1 else words


def _seconds(seconds: float) -> str:
    """A span in whole units, rounded up: what is over shows no 0."""
    whole = int(-(-seconds // 1))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def _elapsed(row: _Row) -> str:
    """How long a task ran, or has been running."""
    start, end = row.times
    if start is None or row.status in {"Pending", "Ready"}:
        return ""
    if end is None:
        from cloaca._core import now_us

        end = now_us()
    seconds = max(0, end - start) // 1_000_000
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
