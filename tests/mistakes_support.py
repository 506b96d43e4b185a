"""A program that makes a newcomer's mistake, and a function that runs the program."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PRELUDE = """
import cloaca, datetime, functools, logging, math, multiprocessing, pathlib, sys, time

URL = "sqlite:///work.db"

# Each line is a single write, so that log lines, which another thread writes, cannot split it.
sys.stdout.reconfigure(line_buffering=True, write_through=False)

def run(name, *arguments, **options):
    with cloaca.DefaultRunner(URL) as runner:
        result = runner.execute(name, *arguments, **options)
        print(result.status, result.error_message)
        print("attempts", {id: task.attempts for id, task in result.tasks.items()})
        print("context", dict(result.final_context))

def report(call):
    try:
        call()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("no error")
"""


@dataclass
class Mistake:
    """A program with a mistake.

    Attributes:
        number: The mistake's number in a list of 55 common mistakes; 0 if it is not in the list.
        title: A description of the mistake.
        program: The program's source, without the prelude that all programs share.
        expected_texts: Texts that the program prints, in this order.
        status: The expected exit status.
        files: The contents of other files in the program's folder, by file name.
    """

    number: int
    title: str
    program: str
    expected_texts: list[str]
    status: int = 0
    files: dict[str, str] = field(default_factory=dict)


def run_program(
    folder: Path, text: str, *command: str, stdin: str | None = None
) -> tuple[int, str]:
    """Runs a program; returns its exit status and its output on both streams."""
    (folder / "program.py").write_text(PRELUDE + text)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CLOAC", "PG"))}
    done = subprocess.run(
        [sys.executable, "-u", *(command or ("program.py",))],
        cwd=folder,
        env=environment,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout
