"""The quick start's program can be killed and restarted, as the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from documentation import DOCS, read

PAGE = read(DOCS / "quick-start.md")


def block_with(text: str) -> int:
    """Returns the index of the first block of the page that contains a text."""
    return next(number for number, block in enumerate(PAGE.blocks) if text in block.code)


def shown(text: str) -> str:
    """Returns the output that the page shows below the first block that contains a text."""
    return PAGE.blocks[block_with(text) + 1].code


def test_the_killed_program_continues_as_the_page_says(tmp_path: Path) -> None:
    program = next(block for block in PAGE.blocks if block.title == "steps.py")
    (tmp_path / "steps.py").write_text(program.code)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOAC")}

    def start(name: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, name],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    # On the page, a sleep precedes the kill. Here, the test first reads the expected lines instead.
    until_killed = shown("python steps.py & sleep")
    with start("steps.py") as killed:
        assert killed.stdout is not None
        printed = [killed.stdout.readline() for _ in until_killed.splitlines()]
        killed.kill()
        assert "".join([*printed, *killed.stdout]) == until_killed

    with start("steps.py") as again:
        wanted = shown("python steps.py\n")
        assert (again.communicate(timeout=60)[0], again.returncode) == (wanted, 0)

    check_tables(tmp_path, environment)


def check_tables(folder: Path, environment: dict[str, str]) -> None:
    """Asserts that `cloaca list` and `show` print the page's tables, with other ids and times."""

    def cloaca(*arguments: str) -> str:
        command = [sys.executable, "-m", "cloaca", *arguments, "-c", "sqlite:///steps.db"]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        ).stdout

    listed = cloaca("list")
    assert skeleton(listed) == skeleton(shown("cloaca list\n"))
    assert skeleton(shown("cloaca show --last\n")) in skeleton(cloaca("show", "--last"))
    assert "has already ended" in cloaca("explain", "--last")


#: Words that occur in durations and times. Durations and times differ between runs.
TIMES = {"s", "ms", "min", "h", "d", "ago", "now", "just"}


def skeleton(table: str) -> str:
    """Returns the words and single digits of a table, without ids, dates, times and durations."""
    word = re.compile(r"(?<![\w.:-])(?:[A-Za-z]+|\d)(?![\w.:-])")
    rows = [
        [found for found in word.findall(row) if found not in TIMES] for row in table.splitlines()
    ]
    # The page shows a terminal, where column names are lowercase. In a pipe, they are uppercase.
    return "\n".join(" ".join(row).lower() for row in rows if row)
