"""Helpers for tests with several processes: durations, and a ledger that all processes write to."""

from __future__ import annotations

import os
import signal
import sqlite3
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

#: Duration of load tests in seconds, if the environment sets one.
SECONDS = os.environ.get("CLOACA_TEST_SECONDS")
#: Whether tests check guaranteed times. By default, they do not, because a busy machine can exceed
#: these times.
IS_STRICT = SECONDS is not None

#: The prelude of every script. `note(...)` appends a line to the ledger in a single write.
PREAMBLE = """
import os, sys, time
import cloaca

ledger = os.open("ledger.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(*words):
    os.write(ledger, (" ".join(map(str, words)) + "\\n").encode())

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.005)

"""

#: Code that drops the capabilities of root, so that file permissions apply to the process.
DROP_RIGHTS = """
import ctypes, os

if os.geteuid() == 0:
    version, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(version, nothing) == 0
"""


def seconds(short: float) -> float:
    """Returns the duration of a load in seconds: `short`, unless the environment sets a value."""
    return float(SECONDS) if SECONDS else short


def until(what: str, is_true: Callable[[], bool], patience: float = 60) -> None:
    """Waits until a condition that depends on other processes is true."""
    end = time.monotonic() + patience
    while not is_true():
        assert time.monotonic() < end, f"did not happen in {patience} s: {what}"
        time.sleep(0.005)


class Ledger:
    """The lines that a test's scripts wrote into the ledger."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.txt"

    def lines(self, first: str) -> list[list[str]]:
        """Returns, for each line that begins with the word `first`, the other words."""
        text = self.path.read_text() if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        words = [line.split(" ") for line in whole]
        return [line[1:] for line in words if line[0] == first]

    def wait(self, first: str, count: int, patience: float = 60) -> list[list[str]]:
        """Waits for at least `count` lines that begin with `first`; returns their other words."""
        until(
            f"{count} lines begin with '{first}'", lambda: len(self.lines(first)) >= count, patience
        )
        return self.lines(first)


def second_ctrl_c(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[str, str]:
    """Sends a second signal, which must end the process at once. Returns its remaining output.

    The process must already have printed that it waits for running tasks.
    """
    time.sleep(0.2)  # Within this time, the shutdown begins to wait for the tasks.
    begun = time.monotonic()
    process.send_signal(number)
    printed = process.communicate(timeout=30)
    assert time.monotonic() - begun < (0.7 if IS_STRICT else 1.5)
    return printed


def suspend(process: subprocess.Popen[str], database: str) -> None:
    """Suspends a process outside of a transaction, so that no SQLite file stays locked."""
    while True:
        process.send_signal(signal.SIGSTOP)
        if not database.startswith("sqlite") or _is_unlocked(database.removeprefix("sqlite:///")):
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)


def _is_unlocked(file: str) -> bool:
    connection = sqlite3.connect(file, timeout=0.5, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def build_wall_clock(folder: Path) -> Path:
    """Builds a library that shifts the wall clock of each process that preloads the library."""
    library = folder / "wall_clock.so"
    source = Path(__file__).resolve().parent / "wall_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return library


def set_clock(file: Path, offset: float) -> None:
    """Shifts the wall clock of all processes that map the file, by changing the file in place."""
    if file.exists():
        with file.open("r+b") as opened:
            opened.write(struct.pack("d", offset))
    else:
        file.write_bytes(struct.pack("d", offset))
