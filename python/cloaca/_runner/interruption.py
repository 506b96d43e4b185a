"""Ctrl-C in a program that uses a runner as a context manager: one line says what is waited for."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from cloaca._core import Runner
    from cloaca._runner.config import DefaultRunnerConfig

    class InterruptedRunner(Protocol):
        """The parts of a `DefaultRunner` that its shutdown after Ctrl-C needs."""

        _core: Runner

        @property
        def config(self) -> DefaultRunnerConfig: ...
        def list_executions(self, *, status: Any = None, limit: int = 50) -> Any: ...
        def shutdown(self, *, timeout: float | None = None) -> None: ...


def shut_down(runner: InterruptedRunner) -> None:
    """Shuts a runner down after Ctrl-C; a second Ctrl-C cuts that short, without another error."""
    try:
        _tell(runner)
        runner.shutdown()
    except KeyboardInterrupt:
        runner.shutdown(timeout=0)


def _tell(runner: InterruptedRunner) -> None:
    """Says on stderr how many tasks are waited for, and what becomes of their executions."""
    running = runner._core.load().running
    if running == 0:
        return
    tasks = "1 running task" if running == 1 else f"{running} running tasks"
    told = (
        f"interrupted: waits up to {runner.config.shutdown_timeout:g} s for {tasks} "
        f"(press Ctrl-C again to leave {'it' if running == 1 else 'them'}); "
        f"{_executions(runner)} with the next runner"
    )
    try:
        sys.stderr.write(f"{told}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return  # no stderr, or one that is closed


def _executions(runner: InterruptedRunner) -> str:
    try:
        found = runner.list_executions(status="Running", limit=2).items
    except Exception:
        found = []  # the database does not answer
    if len(found) == 1:
        return f"execution {found[0].execution_id} goes on"
    return "their executions go on"
