"""Shuts a runner down after Ctrl-C or at exit, and reports what the shutdown waits for."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from cloaca._core import Runner
    from cloaca._runner.config import DefaultRunnerConfig

    class InterruptedRunner(Protocol):
        """The methods of `DefaultRunner` that a shutdown after Ctrl-C uses."""

        _core: Runner
        _tells_open: bool

        @property
        def config(self) -> DefaultRunnerConfig: ...
        def list_executions(self, *, status: Any = None, limit: int = 50) -> Any: ...
        def shutdown(self, *, timeout: float | None = None) -> None: ...
        def _stop_at_once(self) -> None: ...


def shut_down(runner: InterruptedRunner) -> None:
    """Shuts a runner down after Ctrl-C; a second Ctrl-C ends the wait for running tasks.

    The second Ctrl-C raises no further error.
    """
    try:
        report_shutdown(runner)
        runner.shutdown()
    except KeyboardInterrupt:
        runner._stop_at_once()


def shut_down_at_exit(runner: InterruptedRunner, grace: float) -> None:
    """Shuts down a runner that the program has left open; Ctrl-C ends the wait for running tasks.

    Args:
        runner: The runner.
        grace: Maximum time for running tasks to finish, in seconds.
    """
    try:
        if grace > 0:
            # The interpreter stores the exception that ended the program in `sys.last_type`.
            ended_by = getattr(sys, "last_type", None)
            if isinstance(ended_by, type) and issubclass(ended_by, KeyboardInterrupt):
                report_shutdown(runner, grace)
            else:
                _report_exit(runner, grace)
        runner.shutdown(timeout=grace)
    except KeyboardInterrupt:
        # The process ends, so the threads need not be joined.
        runner._core.stop(0)


async def shut_down_async(runner: InterruptedRunner) -> None:
    """Shuts a runner down after Ctrl-C, without blocking the event loop.

    A second Ctrl-C ends the wait for running tasks.
    """
    import asyncio

    def stop() -> None:
        report_shutdown(runner)
        runner.shutdown()

    try:
        await asyncio.to_thread(stop)
    except asyncio.CancelledError:
        runner._stop_at_once()
        raise


def shut_down_unreported(runner: InterruptedRunner) -> None:
    """Shuts a runner down after Ctrl-C, without reporting the executions that it leaves open."""
    runner._tells_open = False
    try:
        runner.shutdown()
    except KeyboardInterrupt:
        runner._stop_at_once()


def is_by_ctrl_c(error: BaseException | None) -> bool:
    """Returns whether Ctrl-C caused an exception.

    The exception can be a `CancelledError`, because `asyncio.run` cancels its main task on Ctrl-C.
    """
    if error is None or isinstance(error, KeyboardInterrupt):
        return error is not None
    if type(error).__name__ != "CancelledError":
        return False
    import signal

    # The handler is a method of `asyncio.Runner`, which counts the signals.
    handler = getattr(signal.getsignal(signal.SIGINT), "func", None)
    count = getattr(getattr(handler, "__self__", None), "_interrupt_count", 0)
    return isinstance(count, int) and count > 0


def is_in_memory(core: Runner) -> bool:
    """Returns whether the database is in memory, and is therefore lost with its runner."""
    return core.location.endswith(":memory:")


def fate(core: Runner, count: int) -> str:
    """Returns what happens to open executions when their runner ends, as the rest of a sentence."""
    if is_in_memory(core):
        return f"{'is' if count == 1 else 'are'} lost with the database in memory"
    return f"{'continues' if count == 1 else 'continue'} with the next runner"


def waiting(runner: InterruptedRunner, tasks: str, grace: float | None = None) -> str:
    """Returns the line that reports which tasks a shutdown after Ctrl-C waits for.

    Args:
        runner: The runner.
        tasks: The tasks, as text.
        grace: Maximum time of the wait, in seconds; the setting `shutdown_timeout` if omitted.
    """
    seconds = runner.config.shutdown_timeout if grace is None else round(grace, 2)
    return (
        f"interrupted: waiting up to {seconds:g} s for {tasks} (press Ctrl-C again to stop waiting)"
    )


def report_shutdown(runner: InterruptedRunner, grace: float | None = None) -> None:
    """Reports how many tasks the shutdown waits for, and what happens to their executions.

    The report is a line on stderr.

    Args:
        runner: The runner.
        grace: Maximum time of the wait, in seconds; the setting `shutdown_timeout` if omitted.
    """
    running = runner._core.load().running
    if running == 0:
        return
    # The shutdown need not report the executions again.
    runner._tells_open = False
    _write(f"{waiting(runner, _tasks(running), grace)}; {_executions(runner)}")


def _report_exit(runner: InterruptedRunner, grace: float) -> None:
    """Reports on stderr how many tasks the exit of the program waits for.

    The shutdown itself reports the number of executions that stay open.
    """
    running = runner._core.load().running
    if running:
        seconds = f"{round(grace, 2):g} s"
        _write(
            f"exiting: waiting up to {seconds} for {_tasks(running)} (press Ctrl-C to stop waiting)"
        )


def _tasks(count: int) -> str:
    return "1 running task" if count == 1 else f"{count} running tasks"


def _write(message: str) -> None:
    try:
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return  # stderr is missing or closed


def _executions(runner: InterruptedRunner) -> str:
    try:
        found = runner.list_executions(status="Running", limit=2).items
    except Exception:
        found = []  # the database does not answer
    if len(found) == 1:
        return f"execution {found[0].execution_id} {fate(runner._core, 1)}"
    return f"their executions {fate(runner._core, 2)}"
