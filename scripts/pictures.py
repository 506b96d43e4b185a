"""Draws the pictures of the documentation: workflows of the examples, and the last benchmark.

    .venv/bin/python scripts/pictures.py [--check]

With `--check`, writes nothing, and exits with status 1 if a picture is out of date.
"""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

from limits_plot import limits_plot

import cloaca
from cloaca._workflows.registry import registry

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
RESULTS = ROOT / "benchmarks" / "results.json"

#: Fill and stroke colours of a task's box by the task's state, readable on light and dark pages.
COLOURS = {
    "Completed": ("#d9f2e3", "#23804b"),
    "Failed": ("#fbdcdc", "#c0262d"),
    "Skipped": ("#eeeeee", "#8a94a6"),
}
BOX = re.compile(r'<g><title>(?P<task>[^<]*)</title><rect [^>]*?fill="[^"]*" stroke="[^"]*"')


def workflow(example: str, name: str) -> cloaca.Workflow:
    """Returns a workflow that an example defines."""
    runpy.run_path(str(ROOT / "examples" / example))
    _, defined = registry.workflows_since(0)
    (found,) = [known for known in defined if known.name == name]
    return found


def dag(found: cloaca.Workflow) -> str:
    """Draws a workflow as a notebook would show it, but without the caption."""
    drawn = found._repr_html_()
    return drawn[drawn.index("<svg") : drawn.index("</svg>") + len("</svg>")] + "\n"


def dag_run(found: cloaca.Workflow, context: dict[str, object]) -> str:
    """Draws a workflow after an execution, with each task in the colour of its state."""
    with cloaca.DefaultRunner(":memory:") as runner:
        tasks = runner.execute(found, context).tasks

    def coloured(box: re.Match[str]) -> str:
        status = str(tasks[box["task"]].status)
        fill, stroke = COLOURS[status]
        text = box.group().replace(f"<title>{box['task']}", f"<title>{box['task']}: {status}")
        return re.sub(r'fill="[^"]*" stroke="[^"]*"', f'fill="{fill}" stroke="{stroke}"', text)

    return BOX.sub(coloured, dag(found))


def pictures() -> dict[Path, str]:
    """Returns the text of every picture, by file."""
    sales = workflow("03_complex_workflows.py", "sales")
    bad_day: dict[str, object] = {"input": {"north": 70, "south": -1, "west": 40}}
    return {
        IMAGES / "sales.svg": dag(sales),
        IMAGES / "sales-run.svg": dag_run(sales, bad_day),
        IMAGES / "limits.svg": limits_plot(json.loads(RESULTS.read_text())),
    }


def main() -> int:
    """Writes the pictures. With `--check`, reports which are out of date."""
    old = {path: text for path, text in pictures().items() if read(path) != text}
    for path, text in old.items():
        if "--check" in sys.argv[1:]:
            shown = path.relative_to(ROOT)
            hint = "run python scripts/pictures.py"
            print(f"{shown} is out of date; hint: {hint}", file=sys.stderr)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if old and "--check" in sys.argv[1:] else 0


def read(path: Path) -> str | None:
    """Returns the text of a file; `None` if the file does not exist."""
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
