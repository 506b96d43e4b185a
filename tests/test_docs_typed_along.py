"""A reader who types a tutorial into a file, block by block, gets the output that the page shows.

The test does what tutorial 01 tells readers to do: it appends the blocks to one file, and runs the
file after each block that has an output. Then the test repeats this in the same folder, where the
database already exists. If a page can run on both kinds of database, the file runs on SQLite after
each block that has an output, and on PostgreSQL only after the last block.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from documentation import DOCS, Page, read
from test_docs_blocks import databases, expected_outputs, matches, runnable

TUTORIALS = [read(path) for path in sorted((DOCS / "tutorials").glob("[0-9]*.md"))]


def cases() -> list[object]:
    """Returns each tutorial with each kind of database on which it runs."""
    return [
        pytest.param(page, kind, id=f"{page.path.stem}-{kind}")
        for page in TUTORIALS
        for kind in ([page.only] if page.only else ["sqlite", "postgres"])
    ]


def run(program: Path, environment: dict[str, str]) -> str:
    """Runs a program, asserts that it succeeds, and returns its output."""
    process = subprocess.run(
        [sys.executable, program.name],
        cwd=program.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize(("page", "kind"), cases())
def test_a_tutorial_typed_in_twice_prints_what_the_page_says(
    page: Page, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    blocks = runnable(page)
    outputs = expected_outputs(page, blocks)
    on_kind = databases(kind, request)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CLOAC", "PG"))}
    if page.only == "postgres":
        environment["ADMIN_URL"] = request.getfixturevalue("postgres")
    for time in ("first", "second"):
        typed, wanted = "", ""
        for block, output in zip(blocks, outputs, strict=True):
            typed += on_kind(block.code) + "\n"
            wanted += output or ""
            is_run = block is blocks[-1] if kind not in (page.only, "sqlite") else bool(output)
            if not is_run:
                continue
            program = tmp_path / "typed.py"
            program.write_text(typed)
            printed = run(program, environment)
            where = f"{page.name}:{block.line} printed, the {time} time,"
            assert matches(wanted, printed), f"{where}\n{printed}"


def test_the_quick_start_prints_the_same_at_every_run(tmp_path: Path) -> None:
    page = read(DOCS / "quick-start.md")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOAC")}
    hello = next(block for block in page.blocks if block.title == "hello.py")
    program = tmp_path / "hello.py"
    program.write_text(hello.code)
    for _ in range(2):
        assert run(program, environment) == page.blocks[page.blocks.index(hello) + 1].code
