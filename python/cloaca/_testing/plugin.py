"""The pytest plugin with the fixture `cloaca_runner`. Pytest loads it through its entry point."""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloaca._testing.runner import VirtualRunner


@pytest.fixture
def cloaca_runner() -> Iterator[VirtualRunner]:
    """A runner on an in-memory database, with a clock that moves while a caller waits.

    Sleeps, retries, timeouts and schedules take no real time. `advance(seconds)` also moves the
    clock.

    Example:
        >>> def test_report(cloaca_runner):
        ...     assert cloaca_runner.execute("report").status == "Completed"

    Since 1.0.
    """
    from cloaca._testing.runner import VirtualRunner

    with VirtualRunner() as runner:
        yield runner
