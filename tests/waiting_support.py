"""A function that waits until a condition becomes true."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Value = TypeVar("Value")


def wait_until(find: Callable[[], Value], seconds: float = 60) -> Value:
    """Calls a function until it returns a true value, and returns this value."""
    end = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < end, f"the condition was not true within {seconds} s"
        time.sleep(0.01)
    return found
