"""Lets a runner serve until a signal arrives (semantics D8)."""

from __future__ import annotations

import signal
import threading

from cloaca._observe.logger import show_on_stderr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Protocol

    from cloaca._runner.interruption import InterruptedRunner
    from cloaca._runner.shutdown import ShutdownRequest

    class ServingRunner(InterruptedRunner, Protocol):
        """The attributes of `DefaultRunner` that `serve` uses."""

        _shutdown_request: ShutdownRequest


# The signals that end `serve`.
_ENDING = (signal.SIGTERM, signal.SIGINT)


def serve(runner: ServingRunner, begun: Callable[[], None] | None = None) -> None:
    """Waits for SIGTERM or SIGINT and shuts the runner down; a second signal stops it at once.

    Only the main thread receives signals; on another thread, the function waits for `shutdown`.

    Args:
        runner: The runner that serves.
        begun: A function to call after the signal handlers are installed. On another thread, which
            installs no handlers, it is called at once.

    Raises:
        SystemExit: A second signal has arrived. The status is 128 + the signal's number.
        RunnerClosedError: The runner has failed.
    """
    if threading.current_thread() is not threading.main_thread():
        if begun is not None:
            begun()
        runner._shutdown_request.wait()
        return _check(runner)
    show_on_stderr()
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, on_signal) for number in _ENDING}
    try:
        if begun is not None:
            begun()
        runner._shutdown_request.wait_with_signals(received)
        _check(runner)
        _stop(runner, received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if len(received) > 1:
        raise SystemExit(128 + received[1])


def _check(runner: ServingRunner) -> None:
    """Raises an error if the runner has failed, so that `serve` does not appear to end normally."""
    if runner._shutdown_request.failed:
        from cloaca._values.exceptions import RunnerClosedError

        raise RunnerClosedError(
            "the runner failed and has stopped",
            hint="see the log for the reason, and start the program again; no stored data is lost",
        )


def _stop(runner: ServingRunner, received: list[int]) -> None:
    """Shuts down on another thread, so that the main thread can receive a second signal.

    Raises:
        BaseException: The shutdown failed.
    """
    failures: list[BaseException] = []

    def stop() -> None:
        try:
            if received[:1] == [signal.SIGINT]:
                from cloaca._runner.interruption import report_shutdown

                report_shutdown(runner)
            runner.shutdown()
        except BaseException as error:
            failures.append(error)

    stopping = threading.Thread(target=stop, name="cloaca-shutdown", daemon=True)
    stopping.start()
    while stopping.is_alive():
        # The timeout lets Python run pending signal handlers between two waits.
        stopping.join(0.1)
        if len(received) > 1:
            runner._stop_at_once()
            return
    if failures:
        raise failures[0]
