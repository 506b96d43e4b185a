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
    """The bars of one execution, as a context manager. They stay visible after its end."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=console or Console(stderr=True),
        )
        self._bars: dict[str, Any] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

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
            self._draw(
                execution.workflow_name, status, progress.fraction, words, status.is_terminal
            )
            return
        for task in progress.tasks.values():
            words = task.message or ""
            if task.attempts > 1:
                words = f"attempt {task.attempts} {words}"
            ended_now = task.status.is_terminal
            self._draw(task.task_id, task.status, task.fraction, words, ended_now)

    def drawing(self) -> Any:
        """The bars as they are, for rich to print once."""
        return self._progress.get_renderable()

    def _draw(self, name: str, status: str, fraction: float, words: str, ended: bool) -> None:
        from rich.markup import escape

        if name not in self._bars:
            self._bars[name] = self._progress.add_task(
                escape(visible(name)), total=1.0, start=False, state="", words=""
            )
        bar = self._bars[name]
        if status not in {"Pending", "Ready"}:
            self._progress.start_task(bar)
        style = _STYLES.get(status)
        state = f"[{style}]{status}[/]" if style else str(status)
        self._progress.update(bar, completed=fraction, state=state, words=escape(visible(words)))
        if ended:
            self._progress.stop_task(bar)
