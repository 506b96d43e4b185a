"""Every example runs on the databases that it supports. Only its database URL is replaced."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from documentation import DOCS, ROOT, read
from test_docs_blocks import URL, matches

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
#: The environment variable in which an example that needs PostgreSQL finds the database's URL.
ADMIN_URL = "ADMIN_URL"


def cases() -> list[object]:
    """Returns each example with each kind of database on which it runs."""
    return [
        pytest.param(example, kind, id=f"{example.stem}-{kind}")
        for example in EXAMPLES
        for kind in ["sqlite", "postgres"]
        if kind == "postgres" or ADMIN_URL not in example.read_text()
    ]


@pytest.mark.parametrize(("example", "kind"), cases())
def test_an_example_runs(
    example: Path, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = example.read_text()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CLOAC", "PG"))}
    # Some tasks fail on purpose. Their failures must not appear on stderr.
    environment["CLOACA_LOG_LEVEL"] = "CRITICAL"
    assert URL.search(text) or ADMIN_URL in text, "the example must name its database"
    if kind == "postgres":
        fresh: Callable[[], str] = request.getfixturevalue("fresh_postgres")
        environment[ADMIN_URL] = fresh()
        for url in set(URL.findall(text)):
            text = text.replace(url, fresh())
    program = tmp_path / example.name
    program.write_text(text)
    process = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout
    for expected in printed_by(example):
        assert matches(expected, process.stdout)


def printed_by(example: Path) -> list[str]:
    """Returns each output that a page shows below the code of an example."""
    found = []
    for page in map(read, DOCS.rglob("*.md")):
        for block, following in itertools.pairwise(page.blocks):
            if block.title == f"examples/{example.name}" and following.language == "output":
                found.append(following.code)
    return found


def test_every_example_is_shown_on_a_page() -> None:
    text = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    for example in EXAMPLES:
        assert f'title="examples/{example.name}"' in text, example.name


def test_every_tutorial_shows_an_example() -> None:
    for path in (DOCS / "tutorials").glob("[0-9]*.md"):
        titles = [block.title or "" for block in read(path).blocks]
        assert any(title.startswith("examples/") for title in titles), path.name
