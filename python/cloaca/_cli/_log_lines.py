"""Log lines of an execution, printed as they come."""

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
# Minimum pause as a multiple of the duration of a read, so that reads do not load the database.
_SHARE = 5


def follow(reads: Reads, id: str) -> bool:
    """Prints the lines of an execution until it has ended, whichever process runs it.

    Returns:
        Whether there were any.
    """
    printed: Counter[str] = Counter()
    while True:
        begun = time.monotonic()
        # The status is read first, because the lines of an attempt are durable before its end.
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
