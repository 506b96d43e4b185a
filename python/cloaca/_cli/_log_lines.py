"""Prints the log lines of an execution as they are written."""

from __future__ import annotations

import time
from collections import Counter

from cloaca._cli._output import say
from cloaca._executions.log_line import LogLine
from cloaca._executions.status import WorkflowStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._core import Reads

# Minimum number of seconds between two reads.
_PAUSE = 0.1
# Minimum pause, as a multiple of the last read's duration. It limits the load on a slow database.
_SHARE = 5


def follow(reads: Reads, id: str) -> bool:
    """Prints the lines of an execution until its end. The execution may run in any process.

    Returns:
        Whether lines were printed.
    """
    printed: Counter[str] = Counter()
    while True:
        begun = time.monotonic()
        # The status is read before the lines. An attempt's lines are durable no later than its
        # outcome, so the read after the end of the execution finds all lines.
        has_ended = WorkflowStatus(reads.status(id)).is_terminal
        found: Counter[str] = Counter()
        for record in reads.logs(id):
            line = str(LogLine(record))
            found[line] += 1
            if found[line] > printed[line]:
                say(line)
        printed = found
        if has_ended:
            return bool(printed)
        time.sleep(max(_PAUSE, _SHARE * (time.monotonic() - begun)))
