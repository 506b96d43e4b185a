"""Draws the output of `cloaca run` and `cloaca show` into docs/images.

    python scripts/cli_pictures.py

The script runs a small pipeline on a new database, and exports rich's output as pictures.
"""

from __future__ import annotations

import io
import re
import tempfile
import time
from pathlib import Path

from rich.console import Console

import cloaca
from cloaca._cli._output import TASK_HEAD, duration_text, table_of, task_rows, time_text
from cloaca._observe.progress_bars import Bars

IMAGES = Path(__file__).parent.parent / "docs" / "images"
WIDTH = 92


def define() -> None:
    """Defines a pipeline that runs long enough to show progress."""
    with cloaca.WorkflowBuilder("etl"):

        @cloaca.task(id="extract")
        def extract(context: cloaca.Context) -> None:
            time.sleep(0.3)
            context["rows"] = list(range(5))

        @cloaca.task(id="clean", dependencies=["extract"])
        def clean(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            for number in range(8):
                handle.set_progress(number + 1, 8, f"file {number + 1} of 8")
                time.sleep(0.25)

        @cloaca.task(id="audit", dependencies=["extract"], retry_attempts=2, retry_delay_ms=50)
        def audit(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            if handle.attempt == 1:
                raise ConnectionError("the auditor is not there yet")
            time.sleep(0.2)

        @cloaca.task(id="total", dependencies=["clean", "audit"])
        def total(context: cloaca.Context) -> None:
            context["total"] = sum(context["rows"])


def console() -> Console:
    """Returns a terminal that records its output."""
    return Console(file=io.StringIO(), force_terminal=True, width=WIDTH, record=True)


def save(shown: Console, name: str) -> None:
    """Writes a picture, without the references to web fonts that rich adds."""
    svg = shown.export_svg(title=f"cloaca {name}", unique_id=f"cloaca-{name}")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (IMAGES / f"cloaca-{name}.svg").write_text(svg, encoding="utf-8")


def main() -> None:
    """Draws both pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    define()
    with (
        tempfile.TemporaryDirectory() as folder,
        cloaca.DefaultRunner(f"sqlite:///{folder}/etl.db") as runner,
    ):
        handle = runner.submit("etl")
        # The picture is not animated: it shows the bars when five of the eight files are done.
        while (handle.progress().tasks["clean"].done or 0) < 5:
            time.sleep(0.02)
        run = console()
        run.print("$ cloaca run pipeline:etl", style="bold", highlight=False)
        bars = Bars(run)
        report = runner._core.reads.progress(handle.id)
        bars.show(report.execution, report.tasks)
        run.print(bars.drawing())
        result = handle.result()
    save(run, "run")

    show = console()
    show.print("$ cloaca show --last", style="bold", highlight=False)
    lines = [
        f"{result.workflow_name}  {result.execution_id}  {result.status}",
        f"submitted {time_text(result.created_at)}  duration {duration_text(result.duration)}",
    ]
    show.print("\n".join(lines), highlight=False)
    rows = task_rows(result, is_short=True)
    show.print(table_of(TASK_HEAD, rows, WIDTH, ["note"]))
    show.print("context\n  rows = [0, 1, 2, 3, 4]\n  total = 10", highlight=False)
    save(show, "show")


if __name__ == "__main__":
    main()
