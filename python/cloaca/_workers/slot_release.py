"""Releases the worker slot that an attempt occupies, while the attempt waits (semantics G2)."""

from __future__ import annotations

import threading
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloaca._core import Work


class _Release:
    """The concurrent waits of an attempt: their number, and whether the slot is released."""

    __slots__ = ("count", "is_released")

    def __init__(self, is_released: bool) -> None:
        self.count = 0
        self.is_released = is_released


# The waits of waiting attempts, by the id of the work object.
_waiting: dict[int, _Release] = {}


def release_slot(work: Work) -> None:
    """Releases the slot at the first of several concurrent waits.

    Each call must be paired with a call of `reacquire_slot`.
    """
    release = _waiting.get(id(work))
    if release is None:
        release = _waiting[id(work)] = _Release(work.begin_deferral())
    release.count += 1


def reacquire_slot(work: Work) -> None:
    """Reacquires the slot after the last of several concurrent waits."""
    release = _waiting[id(work)]
    release.count -= 1
    if release.count == 0:
        del _waiting[id(work)]
        if release.is_released:
            work.end_deferral()


def is_slot_held(work: Work) -> bool:
    """Returns whether the attempt occupies its worker's slot."""
    release = _waiting.get(id(work))
    return release is None or not release.is_released


@contextmanager
def coroutine_waits() -> Iterator[None]:
    """If the calling coroutine runs an attempt, releases the attempt's slot inside the block."""
    work = _work_of_coroutine()
    if work is None:
        yield
        return
    release_slot(work)
    try:
        yield
    finally:
        reacquire_slot(work)


def _work_of_coroutine() -> Work | None:
    """Returns the attempt that the calling coroutine runs; `None` for other callers."""
    from cloaca._workers.blocking import own_work

    if not getattr(threading.current_thread(), "cloaca_runs_coroutines", False):
        return None
    work = own_work()
    return None if work is None or work.callback else work
