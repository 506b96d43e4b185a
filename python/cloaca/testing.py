"""Testing workflows: no real time, no database file, and a crash at every commit point.

Installing the package gives pytest the fixture `cloaca_runner`: a runner on an in-memory database
whose clock only moves while a caller waits, or when the test calls `advance`.

Example:
    >>> def test_the_report_is_sent_again_after_an_hour(cloaca_runner):
    ...     handle = cloaca_runner.submit("report")
    ...     cloaca_runner.advance(3600)
    ...     assert handle.status() == "Completed"

Since 1.0.
"""

from cloaca._testing.crash import CrashReport, crash_everywhere
from cloaca._testing.runner import VirtualRunner
from cloaca._testing.task import run_task

__all__ = ["CrashReport", "VirtualRunner", "crash_everywhere", "run_task"]
