"""Two runner processes in which the items of a map end at a chosen instant, for tests of races."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cloaca
from processes import PREAMBLE, Ledger, until

#: Number of rounds of each race; 8 in `make test`, unless the environment sets another number.
ROUNDS = int(os.environ.get("CLOACA_TEST_MAP_RACES", "8"))
#: Maximum number of rounds of all races on one database.
MOST = 10_000
#: Seconds between the call of `end_items` and the moment at which the items end.
LEAD = 0.003

#: The size of a round in the memory that the processes share. The first 8 bytes contain the time at
#: which the round's items end (0: not yet known). Each of the next 8 bytes belongs to one item, and
#: is 1 once the item runs.
ROUND_BYTES = 16

DEFINITIONS = textwrap.dedent(
    """
    def define(workflow, **options):
        fields = {"rows": list[int], "round": int, "bad": list[int], "heals": bool}
        with cloaca.WorkflowBuilder(workflow, input=fields):

            @cloaca.task(
                over="rows",
                retry_attempts=1,
                on_success=lambda task, context: note("success", context["round"]),
                on_failure=lambda task, error, context: note("failure", context["round"]),
                **options,
            )
            def work(
                row: int, round: int, bad: list[int], heals: bool, handle: cloaca.TaskHandle
            ) -> int:
                note("item", round, handle.index, name)
                wait_until_end(round, handle.index)
                if handle.index in bad and (not heals or is_first(round, handle.index)):
                    raise ValueError("bad")
                return row * 10

            @cloaca.task
            def total(work: cloaca.MapResult[int], round: int) -> int:
                note("total", round)
                return sum(work.values())

    define("race_of_items")
    define("race_of_tolerated_items", tolerate=1)
    """
)

WORKER = (
    PREAMBLE
    + textwrap.dedent(
        """
        import mmap, struct

        database, name = sys.argv[1:]
        with open("shared", "r+b") as file:
            shared = mmap.mmap(file.fileno(), 0)

        def wait_until_end(round, index):
            shared[16 * round + 8 + index] = 1
            while True:
                (at,) = struct.unpack_from("d", shared, 16 * round)
                left = at - time.time() if at else 1
                if left <= 0:
                    return
                if left > 0.001:
                    time.sleep(0.0005)

        def is_first(round, index):
            try:
                os.close(os.open(f"bad-{round}-{index}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return False
            return True
        """
    )
    + DEFINITIONS
    + textwrap.dedent(
        """
        config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2)
        with cloaca.DefaultRunner(database, config) as runner:
            note("ready", name)
            wait_for("stop")
        """
    )
)


class Race:
    """Two processes that run items, and a client in this process.

    Attributes:
        client: A runner that runs no tasks.
        ledger: The ledger, in which both processes record the calls of their functions.
    """

    def __init__(self, folder: Path, client: cloaca.DefaultRunner) -> None:
        self.client = client
        self.ledger = Ledger(folder)
        self._file = (folder / "shared").open("r+b")
        self._shared = mmap.mmap(self._file.fileno(), 0)
        self._next = 0

    def start(
        self, workflow: str, count: int, bad: tuple[int, ...] = (), *, heals: bool = False
    ) -> tuple[int, cloaca.WorkflowHandle]:
        """Submits a map and waits until all its items run. Returns the round and the handle.

        The items with an index in `bad` fail; with `heals`, only the first time that they run.
        """
        number = self._next
        self._next += 1
        rows = list(range(1, count + 1))
        given = {"rows": rows, "round": number, "bad": list(bad), "heals": heals}
        handle = self.client.submit(workflow, given)
        begin = ROUND_BYTES * number + 8
        wanted = b"\1" * count
        until("all items run", lambda: self._shared[begin : begin + count] == wanted)
        return number, handle

    def end_items(self, number: int, offset: float = 0.0) -> None:
        """Lets the items of a round end together, and waits until `offset` seconds after that."""
        at = time.time() + LEAD
        begin = ROUND_BYTES * number
        self._shared[begin : begin + 8] = struct.pack("d", at)
        while time.time() < at + offset:
            pass

    def counts(self, kind: str) -> Counter[int]:
        """Returns, for each round, the number of its lines of one kind in the ledger."""
        return Counter(int(line[0]) for line in self.ledger.lines(kind))

    def items(self, number: int) -> list[list[str]]:
        """Returns the index and the process of each call that ran an item of a round."""
        lines = self.ledger.lines("item")
        return sorted(line[1:] for line in lines if int(line[0]) == number)

    def states(self, handle: cloaca.WorkflowHandle) -> list[str]:
        """Returns the states of the items of a map."""
        return [str(item.status) for item in self.client.items(handle, "work")]

    def close(self) -> None:
        """Closes the shared memory."""
        self._shared.close()
        self._file.close()


@contextlib.contextmanager
def race(database: str, folder: Path) -> Iterator[Race]:
    """Starts two processes on a database, and stops them at the end."""
    (folder / "shared").write_bytes(bytes(ROUND_BYTES * MOST))
    program = folder / "worker.py"
    program.write_text(WORKER)
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), database, name],
            cwd=folder,
            # Some items fail on purpose. Their failures must not appear on stderr.
            env={**os.environ, "CLOACA_LOG_LEVEL": "CRITICAL"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("first", "second")
    ]
    exec(DEFINITIONS, {"cloaca": cloaca})  # The client needs the definitions, but runs no task.
    try:
        with cloaca.DefaultRunner(database, start=False) as client:
            found = Race(folder, client)
            found.ledger.wait("ready", 2)
            yield found
            found.close()
        (folder / "stop").touch()
        for process in processes:
            assert process.communicate(timeout=60) == ("", "")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def offsets(rounds: int) -> Iterator[float]:
    """Yields offsets in seconds, from 2 ms before the end of the items to 4 ms after it.

    The offsets of consecutive rounds lie far apart, so that a few rounds already cover the range.
    """
    for number in range(rounds):
        yield -0.002 + 0.006 * (number * 0.618 % 1.0)
