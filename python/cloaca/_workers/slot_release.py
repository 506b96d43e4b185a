"""Releases the worker's slot of an attempt while it waits (semantics G2, U4)."""

from __future__ import annotations

import threading
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloaca._core import Work


class _Release:
    """The waits of an attempt that go on at the same time."""

    __slots__ = ("count", "is_released")

    def __init__(self, is_released: bool) -> None:
        self.count = 0
        self.is_released = is_released


# The waiting attempts, by the identity of their work.
_waiting: dict[int, _Release] = {}


def release_slot(work: Work) -> None:
    """Releases the slot with the first of several waits; to be paired with `reacquire_slot`."""
    release = _waiting.get(id(work))
    if release is None:
        release = _waiting[id(work)] = _Release(work.begin_deferral())
    release.count += 1


def reacquire_slot(work: Work) -> None:
    """Reacquires the slot after the last of several waits."""
    release = _waiting[id(work)]
    release.count -= 1
    if release.count == 0:
        del _waiting[id(work)]
        if release.is_released:
            work.end_deferral()


def is_slot_held(work: Work) -> bool:
    """Whether the attempt occupies its worker's slot."""
    release = _waiting.get(id(work))
    return release is None or not release.is_released


@contextmanager
def coroutine_waits() -> Iterator[None]:
    """Releases the slot of the coroutine that runs here, if it is an attempt of a runner."""
    work = _coroutine()
    if work is None:
        yield
        return
    release_slot(work)
    try:
        yield
    finally:
        reacquire_slot(work)


def _coroutine() -> Work | None:
    from cloaca._workers.blocking import own_work

    if not getattr(threading.current_thread(), "cloaca_runs_coroutines", False):
        return None
    work = own_work()
    return None if work is None or work.callback else work
