"""Pyright accepts `typing/accepted.py`, and refuses each marked line of `refused_by_both.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TYPING = Path(__file__).parent / "typing"


def pyright(folder: Path, *files: Path) -> list[dict[str, Any]]:
    """Returns the errors that pyright finds. An unneeded `ignore` comment is also an error.

    Skips the test if pyright cannot be run.
    """
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
        # On its first use, the Python package of pyright downloads pyright. The download can fail.
        pytest.skip("pyright is not available here")


def test_pyright_finds_only_the_expected_errors(tmp_path):
    found = pyright(tmp_path, TYPING / "accepted.py", TYPING / "refused_by_both.py")
    assert [f"{Path(entry['file']).name}: {entry['message']}" for entry in found] == []
