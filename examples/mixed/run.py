"""One workflow in two languages: Python fetches and reports, Rust does the heavy step in between.

    python examples/mixed/run.py [--database URL] [--lines N] [--profile dev|release]

Builds the Rust side, starts both sides on one database (a new SQLite file by default), and
shows the report. Kill one of the sides while it runs, and start this program again: finished
tasks do not run again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUTPUT = HERE / "output"


def build_worker(profile: str = "release") -> Path:
    """Build the Rust side and return the path of its program."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    command = ["cargo", "build", "--quiet", "--package", "mixed-worker", "--profile", profile]
    subprocess.run(command, check=True, cwd=ROOT)
    return target / ("debug" if profile == "dev" else profile) / "mixed-worker"


def start_worker(program: Path, database: str) -> subprocess.Popen[str]:
    """Start the Rust side. It runs until its standard input is closed."""
    return subprocess.Popen([str(program), database], stdin=subprocess.PIPE, text=True)


def start_pipeline(database: str, output: Path, lines: int) -> subprocess.Popen[str]:
    """Start the Python side. It ends when the execution ends."""
    command = [sys.executable, str(HERE / "pipeline.py"), database, str(output), str(lines)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main() -> int:
    """Run both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--database", help="database URL; a new SQLite file if omitted")
    parser.add_argument("--lines", type=int, default=400_000, help="lines of the log")
    parser.add_argument("--profile", default="release", help="Cargo profile: dev or release")
    options = parser.parse_args()
    OUTPUT.mkdir(exist_ok=True)
    # The path of the folder is the key of the execution. If the report of a folder was not shown
    # yet, the folder's execution is continued. Otherwise a new folder starts a new execution.
    unfinished = [folder for folder in OUTPUT.glob("run-*") if not (folder / "shown").exists()]
    folder = unfinished[0] if unfinished else OUTPUT / f"run-{int(time.time())}"
    database = options.database or f"sqlite:///{OUTPUT / 'traffic.db'}"
    worker = start_worker(build_worker(options.profile), database)
    pipeline = start_pipeline(database, folder, options.lines)
    report, _ = pipeline.communicate()
    worker.communicate()  # closes the worker's standard input, and waits until it exits
    if pipeline.returncode != 0:
        print("the pipeline failed; hint: run this program again to continue it", file=sys.stderr)
        return 1
    print((folder / "journal.tsv").read_text())
    print(Path(report.strip()).read_text())
    (folder / "shown").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
