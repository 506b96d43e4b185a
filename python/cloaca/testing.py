"""Helpers for tests of workflows: a runner with a virtual clock, crash tests, and single tasks.

The package adds the fixture `cloaca_runner` to pytest: a runner on an in-memory database. The
runner's clock moves only while a caller waits or when the test calls `advance`.

Example:
    >>> def test_report_is_sent_again_after_an_hour(cloaca_runner):
    ...     handle = cloaca_runner.submit("report")
    ...     cloaca_runner.advance(3600)
    ...     assert handle.status() == "Completed"

Since 1.0.
"""

from cloaca._testing.crash import CrashReport, crash_everywhere
from cloaca._testing.runner import VirtualRunner
from cloaca._testing.task import run_task

__all__ = ["CrashReport", "VirtualRunner", "crash_everywhere", "run_task"]
