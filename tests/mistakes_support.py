"""A newcomer's mistake as a program, and a function that runs the program."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PRELUDE = """
import cloaca, datetime, functools, logging, math, multiprocessing, pathlib, sys, time

URL = "sqlite:///work.db"

# Each line is one write, because another thread writes the log.
sys.stdout.reconfigure(line_buffering=True, write_through=False)

def run(name, *arguments, **options):
    with cloaca.DefaultRunner(URL) as runner:
        result = runner.execute(name, *arguments, **options)
        print(result.status, result.error_message)
        print("attempts", {id: task.attempts for id, task in result.tasks.items()})
        print("context", dict(result.final_context))

def told(call):
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
        number: Its number in the list of 55 mistakes; 0 if it is not in the list.
        title: The mistake.
        program: The program, without the prelude that all programs share.
        told: Texts that the program prints, in this order.
        status: The exit status.
        files: Other files of its folder.
    """

    number: int
    title: str
    program: str
    told: list[str]
    status: int = 0
    files: dict[str, str] = field(default_factory=dict)


def run_program(
    folder: Path, text: str, *command: str, stdin: str | None = None
) -> tuple[int, str]:
    """Runs a program and returns its status and what it printed on both streams."""
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
