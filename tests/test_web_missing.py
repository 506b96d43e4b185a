"""A test run without a browser says that it does not test the web page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTE = "tests/web: not run, because Playwright or Chromium is missing; hint: make test-web"


@pytest.mark.parametrize(
    ("selected", "is_noted"), [("tests/web", True), ("tests/test_web_missing.py", False)]
)
def test_run_without_a_browser_says_so(selected: str, is_noted: bool) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", selected]
    environment = {**os.environ, "PATH": "", "CHROMIUM": ""}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, timeout=120
    )
    assert (NOTE in ended.stdout) == is_noted, ended.stdout
