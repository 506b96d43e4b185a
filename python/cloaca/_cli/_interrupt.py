"""Ctrl-C in commands that wait."""

from __future__ import annotations

from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], None]]:
    """Defers the first Ctrl-C in the block; a second one raises `KeyboardInterrupt` at once.

    Yields a function that raises `KeyboardInterrupt` if a Ctrl-C was deferred. The block calls it
    between two waits. Python ignores a `KeyboardInterrupt` that the handler of the signal raises
    in a callback of a weak reference, and the import of a module calls such callbacks. So without
    this function, Ctrl-C could have no effect.
    """
    import signal

    received: list[int] = []

    def on_signal(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    def raise_interrupt() -> None:
        if received:
            raise KeyboardInterrupt

    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.default_int_handler:
        yield raise_interrupt  # Ctrl-C is ignored, or the program handles it
        return
    signal.signal(signal.SIGINT, on_signal)
    try:
        yield raise_interrupt
    finally:
        signal.signal(signal.SIGINT, previous)
