"""The demo: run the weather pipeline, kill its process, run it again, look at what happened.

make demo        or        python examples/weather/run.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "output"
TASKS = ["read", "clean", "temperature", "rain", "kinds", "trend", "plot", "report"]
VICTIM = "plot"

COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(text: str, code: str) -> str:
    """Return coloured text for a terminal, plain text otherwise."""
    return f"\x1b[{code}m{text}\x1b[0m" if COLOURS else text


def journal() -> list[list[str]]:
    """Return the lines that the tasks wrote: process, task and finding."""
    path = OUTPUT / "journal.tsv"
    return [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []


def start(*arguments: str) -> tuple[int, int, float]:
    """Run the pipeline in a separate process and show its tasks while they run."""
    shown = len(journal())
    command = [
        sys.executable,
        str(HERE / "pipeline.py"),
        f"sqlite:///{OUTPUT / 'weather.db'}",
        str(OUTPUT),
    ]
    began = time.monotonic()
    child = subprocess.Popen(command + list(arguments))
    while True:
        ended = child.poll() is not None
        for _, task, found in journal()[shown:]:
            shown += 1
            died = task == VICTIM and bool(arguments)
            mark = paint("✗", "31") if died else paint("✓", "32")
            print(f"   {mark} {task:12} {found}", flush=True)
        if ended:
            return child.pid, child.returncode, time.monotonic() - began
        time.sleep(0.02)


def main() -> int:
    """Kill the pipeline, start it again, and check that no finished task ran again."""
    OUTPUT.mkdir(exist_ok=True)
    for old in OUTPUT.iterdir():
        old.unlink()
    print(paint("cloaca demo: four years of weather in Seattle", "1"), "\n")
    print(
        paint(
            "1. A process runs the pipeline, and kills itself with SIGKILL in the middle of a task",
            "1",
        )
    )
    first, code, _ = start("--die-in", VICTIM)
    if code != -signal.SIGKILL:
        print(
            f"the first process should have died by SIGKILL, but its exit status is {code}",
            file=sys.stderr,
        )
        return 1
    print(f"   {paint('killed', '31;1')}: process {first} is gone, in the middle of '{VICTIM}'\n")
    print(paint("2. A new process opens the same database and continues", "1"))
    second, code, seconds = start()
    if code != 0:
        print(f"the second process failed with exit status {code}", file=sys.stderr)
        return 1
    print(f"   {paint('complete', '32;1')} after {seconds:.1f} s, start of Python included\n")
    return show(first, second)


def show(first: int, second: int) -> int:
    """Print which process ran which task, and check that no finished task ran twice."""
    print(paint("3. Who ran what", "1"))
    runs = [(int(process), task) for process, task, _ in journal()]
    failed = False
    for task in TASKS:
        by_first, by_second = runs.count((first, task)), runs.count((second, task))
        expected = (1, 1) if task == VICTIM else (int(by_first > 0), 1 - int(by_first > 0))
        failed |= (by_first, by_second) != expected
        cells = [
            paint("ran", "32") if count else paint("  ·", "2") for count in (by_first, by_second)
        ]
        if task == VICTIM:
            cells[0] = paint("died", "31")
        print(f"   {task:12} {cells[0]:>4}   {cells[1]}")
    report = OUTPUT / "report.html"
    failed |= not report.exists() or "</table>" not in report.read_text()
    if failed:
        print("a finished task ran again, or the report is not complete", file=sys.stderr)
        return 1
    print(
        f"\n   Finished tasks did not run again. The report: {paint(os.path.relpath(report), '36')}"
    )
    cloaca = os.path.relpath(Path(sys.executable).with_name("cloaca"))
    command = f"{cloaca} ui -c sqlite:///{os.path.relpath(OUTPUT / 'weather.db')}"
    print(f"   Look at the run in your browser: {paint(command, '36')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
