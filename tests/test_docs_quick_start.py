"""The quick start's kill in the middle goes as the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from documentation import DOCS, read

PAGE = read(DOCS / "quick-start.md")


def shown(command: str) -> str:
    """What the page shows below a block of the shell that begins like this."""
    number = next(
        number
        for number, block in enumerate(PAGE.blocks)
        if block.language == "sh" and block.code.startswith(command)
    )
    return PAGE.blocks[number + 1].code


def test_the_program_that_is_killed_goes_on_as_the_page_says(tmp_path: Path) -> None:
    program = next(block for block in PAGE.blocks if block.title == "steps.py")
    (tmp_path / "steps.py").write_text(program.code)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLOAC")}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "steps.py"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    # The page's sleep stands for a person who watches; here the kill waits for the line.
    until_killed = shown("python steps.py & sleep")
    with start() as killed:
        assert killed.stdout is not None
        printed = [killed.stdout.readline() for _ in until_killed.splitlines()]
        killed.kill()
        assert "".join([*printed, *killed.stdout]) == until_killed

    with start() as again:
        printed_again, _ = again.communicate(timeout=60)
    assert (again.returncode, printed_again) == (0, shown("python steps.py\n"))
