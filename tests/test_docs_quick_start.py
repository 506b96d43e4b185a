"""The quick start's kill in the middle goes as the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from documentation import DOCS, read

PAGE = read(DOCS / "quick-start.md")
#: Text that only the block with the history contains.
LOOK_BACK = "task.attempts for task in"


def block_with(text: str) -> int:
    """The number of the first block of the page that has this text in it."""
    return next(number for number, block in enumerate(PAGE.blocks) if text in block.code)


def shown(text: str) -> str:
    """The output that the page shows below that block."""
    return PAGE.blocks[block_with(text) + 1].code


def test_the_program_that_is_killed_goes_on_as_the_page_says(tmp_path: Path) -> None:
    program = next(block for block in PAGE.blocks if block.title == "steps.py")
    (tmp_path / "steps.py").write_text(program.code)
    (tmp_path / "look.py").write_text(PAGE.blocks[block_with(LOOK_BACK)].code)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOAC")}

    def start(name: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, name],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    # The page's sleep stands for a person who watches; here the kill waits for the line.
    until_killed = shown("python steps.py & sleep")
    with start("steps.py") as killed:
        assert killed.stdout is not None
        printed = [killed.stdout.readline() for _ in until_killed.splitlines()]
        killed.kill()
        assert "".join([*printed, *killed.stdout]) == until_killed

    for name, wanted in [
        ("steps.py", shown("python steps.py\n")),
        ("look.py", shown(LOOK_BACK)),
    ]:
        with start(name) as again:
            assert (again.communicate(timeout=60)[0], again.returncode) == (wanted, 0)
