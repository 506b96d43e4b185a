"""The Python side: a day of a web server's traffic, from the log to a report.

    python pipeline.py DATABASE OUTPUT LINES

Defines the workflow `traffic` and runs it. A Rust program (`worker/`) runs the task `aggregate`.
The key of the execution is the path of the output folder, so that a second start continues the
execution of a process that died.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import cloaca

FILES = 8
PATHS = ["/", "/search", "/product", "/cart", "/checkout", "/login", "/api/v1/items", "/favicon"]
WEIGHTS = [20, 15, 25, 8, 3, 4, 20, 5]
SLOWNESS = [30, 120, 60, 80, 250, 90, 40, 5]


def note(context: cloaca.Context, task: str, text: str) -> None:
    """Record which process ran which task, so that a repeated run is visible."""
    with Path(context["output"], "journal.tsv").open("a") as lines:
        lines.write(f"{os.getpid()}\tPython\t{task}\t{text}\n")


def make_log(path: Path, part: int, lines: int) -> None:
    """Writes one file of the log. The same arguments give the same file."""
    chance = random.Random(part)
    seconds = 24 * 3600 // FILES
    with path.open("w") as log:
        for index in range(lines):
            second = part * seconds + index * seconds // lines
            clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            which = chance.choices(range(len(PATHS)), WEIGHTS)[0]
            status = 503 if chance.random() < 0.002 else 200
            took = min(int(chance.expovariate(1 / SLOWNESS[which])), 20_000)
            log.write(
                f"10.0.{index % 256}.{part} [2026-01-01T{clock}Z] "
                f'"GET {PATHS[which]}" {status} {200 + took * 7} {took}\n'
            )


with cloaca.WorkflowBuilder("traffic") as builder:
    builder.description("A day of a web server's traffic, from the log to a report")

    @cloaca.task
    def fetch(context: cloaca.Context) -> None:
        """Generate the log, file by file. A real program would download it."""
        files = []
        for part in range(FILES):
            path = Path(context["output"], f"access-{part}.log")
            make_log(path, part, context["lines"] // FILES)
            files.append(str(path))
            note(context, "fetch", f"{part + 1} of {FILES} files")
        context["files"] = files

    aggregate = cloaca.external_task("aggregate", dependencies=[fetch], timeout=600)

    @cloaca.task(dependencies=[aggregate])
    def report(context: cloaca.Context) -> None:
        """Write the report."""
        note(context, "report", "begins")
        summary = context["summary"]
        rows = [f"{'path':16} {'requests':>10} {'errors':>8} {'p50 ms':>8} {'p99 ms':>8}"]
        rows += [
            f"{row['path']:16} {row['requests']:10,} {row['errors']:8,} "
            f"{row['p50_ms']:8,} {row['p99_ms']:8,}"
            for row in summary["paths"]
        ]
        rows.append(
            f"\n{summary['requests']:,} requests, {summary['bytes'] / 1e6:,.1f} MB, "
            f"{summary['errors']:,} errors; the busiest hour began at {summary['busiest_hour']}:00"
        )
        path = Path(context["output"], "report.txt")
        path.write_text("\n".join(rows) + "\n")
        context["report"] = str(path)
        note(context, "report", "done")


def main() -> None:
    """Run the workflow to its end."""
    database, output, lines = sys.argv[1:]
    Path(output).mkdir(parents=True, exist_ok=True)
    with cloaca.DefaultRunner(database) as runner:
        start = {"output": output, "lines": int(lines)}
        handle = runner.submit("traffic", start, key=output)
        result = handle.result().raise_for_status()
        print(result.final_context["report"])


if __name__ == "__main__":
    main()
