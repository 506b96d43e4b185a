"""One workflow in two languages: Python fetches and reports, Rust does the heavy step in between.

    python examples/mixed/run.py [--database URL] [--lines N] [--profile dev|release]

Builds the Rust side, starts both sides on one database (a new SQLite file by default), and
shows the report. Kill either side while it runs and start this again: finished tasks do not run
again.
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
    """Start the Python side. It ends with the execution."""
    command = [sys.executable, str(HERE / "pipeline.py"), database, str(output), str(lines)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main() -> int:
    """Run both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--database", help="a URL; an SQLite file if omitted")
    parser.add_argument("--lines", type=int, default=400_000, help="lines of the log")
    parser.add_argument("--profile", default="release", help="how to build the Rust side")
    options = parser.parse_args()
    OUTPUT.mkdir(exist_ok=True)
    # Each run has a new folder, whose name is the key. An unfinished run is continued instead.
    unfinished = [folder for folder in OUTPUT.glob("run-*") if not (folder / "shown").exists()]
    folder = unfinished[0] if unfinished else OUTPUT / f"run-{int(time.time())}"
    database = options.database or f"sqlite:///{OUTPUT / 'traffic.db'}"
    worker = start_worker(build_worker(options.profile), database)
    pipeline = start_pipeline(database, folder, options.lines)
    report, _ = pipeline.communicate()
    worker.communicate()  # closes its standard input, and waits for its end
    if pipeline.returncode != 0:
        print("the pipeline failed; run this again to continue it", file=sys.stderr)
        return 1
    print((folder / "journal.tsv").read_text())
    print(Path(report.strip()).read_text())
    (folder / "shown").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
