"""The generated parts of the documentation are up to date."""

from __future__ import annotations

import subprocess
import sys

import pytest

from documentation import ROOT


@pytest.mark.parametrize("script", ["reference_pages", "pictures"])
def test_generated_parts_are_current(script: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    advice = f"run .venv/bin/python scripts/{script}.py"
    assert checked.returncode == 0, f"{checked.stderr}{advice}"
