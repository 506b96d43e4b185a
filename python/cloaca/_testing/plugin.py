"""The pytest plugin: the fixture `cloaca_runner`. Loaded by pytest through its entry point."""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloaca._testing.runner import VirtualRunner


@pytest.fixture
def cloaca_runner() -> Iterator[VirtualRunner]:
    """A runner on an in-memory database, with a clock that moves only while a caller waits.

    Sleeps, retries, timeouts and schedules take no real time. `advance(seconds)` moves the clock.
    """
    from cloaca._testing.runner import VirtualRunner

    with VirtualRunner() as runner:
        yield runner
