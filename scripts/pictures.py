"""Draws the pictures of the documentation from the examples.

    .venv/bin/python scripts/pictures.py [--check]

With `--check` nothing is written, and the exit status is 1 where a picture is not current.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from cloaca._drawing import draw
from cloaca._workflow_registry import registry

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
#: The pictures of DAGs: the example that defines the workflow, and the workflow's name.
WORKFLOWS = {"sales.svg": ("03_complex_workflows.py", "sales")}


def picture(example: str, workflow: str) -> str:
    """The drawing that a notebook shows, without the caption above it."""
    runpy.run_path(str(ROOT / "examples" / example))
    _, defined = registry.workflows_since(0)
    (found,) = [known for known in defined if known.name == workflow]
    drawn = draw(found)
    return drawn[drawn.index("<svg") : drawn.index("</svg>") + len("</svg>")] + "\n"


def main() -> int:
    """Write the pictures, or say which are not current."""
    status = 0
    IMAGES.mkdir(exist_ok=True)
    for name, (example, workflow) in WORKFLOWS.items():
        path = IMAGES / name
        new = picture(example, workflow)
        if path.exists() and path.read_text() == new:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is not current", file=sys.stderr)
            status = 1
        else:
            path.write_text(new)
            print(f"wrote {path.relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
