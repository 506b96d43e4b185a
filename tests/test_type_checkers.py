"""Pyright agrees with mypy on the public types: which lines pass, and which do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TYPING = Path(__file__).parent / "typing"


def pyright(folder: Path, *files: Path) -> list[dict[str, Any]]:
    """The errors that pyright finds, including comments that ignore an error without need."""
    settings = {
        "include": [str(file) for file in files],
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    try:
        told = subprocess.run(
            [*command, "-p", str(folder)], capture_output=True, text=True, timeout=110, check=False
        )
        return list(json.loads(told.stdout)["generalDiagnostics"])
    except (subprocess.TimeoutExpired, ValueError):
        # The package downloads pyright's program when it is first used.
        pytest.skip("pyright is not available here")


def test_types_of_the_package_are_read_by_pyright(tmp_path):
    found = pyright(tmp_path, TYPING / "accepted.py", TYPING / "refused_by_both.py")
    assert [f"{Path(entry['file']).name}: {entry['message']}" for entry in found] == []
