"""Ctrl-C, and the exit of a program with a live runner: says what the shutdown waits for."""

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
        _tells_open: bool

        @property
        def config(self) -> DefaultRunnerConfig: ...
        def list_executions(self, *, status: Any = None, limit: int = 50) -> Any: ...
        def shutdown(self, *, timeout: float | None = None) -> None: ...


def shut_down(runner: InterruptedRunner) -> None:
    """Shuts a runner down after Ctrl-C; a second Ctrl-C cuts that short, without another error."""
    try:
        tell(runner)
        runner.shutdown()
    except KeyboardInterrupt:
        runner.shutdown(timeout=0)


def shut_down_at_exit(runner: InterruptedRunner, grace: float) -> None:
    """Shuts a runner down that the program has left open; Ctrl-C cuts that short.

    Args:
        runner: The runner.
        grace: Maximum time for running tasks to finish, in seconds.
    """
    try:
        if grace > 0:
            # The interpreter stores here the exception that has ended the program.
            ended_by = getattr(sys, "last_type", None)
            if isinstance(ended_by, type) and issubclass(ended_by, KeyboardInterrupt):
                tell(runner, grace)
            else:
                _tell_exit(runner, grace)
        runner.shutdown(timeout=grace)
    except KeyboardInterrupt:
        # The process ends anyway, so the threads need not be joined.
        runner._core.stop(0)


async def shut_down_async(runner: InterruptedRunner) -> None:
    """Shuts a runner down after Ctrl-C without blocking the loop; a second Ctrl-C cuts it short."""
    import asyncio

    def stop() -> None:
        tell(runner)
        runner.shutdown()

    try:
        await asyncio.to_thread(stop)
    except asyncio.CancelledError:
        runner.shutdown(timeout=0)
        raise


def stop_untold(runner: InterruptedRunner) -> None:
    """Shuts a runner down after Ctrl-C, without saying what it leaves open."""
    runner._tells_open = False
    try:
        runner.shutdown()
    except KeyboardInterrupt:
        runner.shutdown(timeout=0)


def is_by_ctrl_c(error: BaseException | None) -> bool:
    """Whether an exception is due to Ctrl-C: `asyncio.run` cancels its main task for it."""
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
    """Whether the database is in memory, so that it is lost with its runner."""
    return core.location.endswith(":memory:")


def fate(core: Runner, count: int) -> str:
    """The predicate that says what becomes of open executions of a runner that ends."""
    if is_in_memory(core):
        return f"{'is' if count == 1 else 'are'} lost with the database in memory"
    return f"{'continues' if count == 1 else 'continue'} with the next runner"


def waiting(runner: InterruptedRunner, tasks: str, count: int, grace: float | None = None) -> str:
    """The line that says what a shutdown after Ctrl-C waits for.

    Args:
        runner: The runner.
        tasks: The tasks.
        count: The number of tasks.
        grace: Maximum time of the wait, in seconds; the setting `shutdown_timeout` if omitted.
    """
    seconds = runner.config.shutdown_timeout if grace is None else round(grace, 2)
    return (
        f"interrupted: waits up to {seconds:g} s for {tasks} "
        f"(press Ctrl-C again to leave {'it' if count == 1 else 'them'})"
    )


def tell(runner: InterruptedRunner, grace: float | None = None) -> None:
    """Says on stderr how many tasks are waited for, and what becomes of their executions.

    Args:
        runner: The runner.
        grace: Maximum time of the wait, in seconds; the setting `shutdown_timeout` if omitted.
    """
    running = runner._core.load().running
    if running == 0:
        return
    # The shutdown need not say it again.
    runner._tells_open = False
    _write(f"{waiting(runner, _tasks(running), running, grace)}; {_executions(runner)}")


def _tell_exit(runner: InterruptedRunner, grace: float) -> None:
    """Says on stderr how many tasks the end of a program waits for.

    The shutdown says which executions stay open.
    """
    running = runner._core.load().running
    if running:
        seconds = f"{round(grace, 2):g} s"
        them = "it" if running == 1 else "them"
        _write(
            f"exiting: waits up to {seconds} for {_tasks(running)} (press Ctrl-C to leave {them})"
        )


def _tasks(count: int) -> str:
    return "1 running task" if count == 1 else f"{count} running tasks"


def _write(told: str) -> None:
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
        return f"execution {found[0].execution_id} {fate(runner._core, 1)}"
    return f"their executions {fate(runner._core, 2)}"
