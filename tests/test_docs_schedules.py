"""The examples of the page about schedules do what the page says."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime
from pathlib import Path

import cloaca
from cloaca._workflow_registry import registry

PAGE = Path(__file__).parent.parent / "docs" / "schedules.md"


def test_every_example_gives_what_the_page_shows(monkeypatch):
    # The page's trigger is not to be polled by the runners of other tests.
    monkeypatch.setattr(registry, "_trigger_revisions", {})
    lines = PAGE.read_text().splitlines()
    text = "\n".join("" if line.startswith("```") else line for line in lines)
    names = {"cloaca": cloaca, "datetime": datetime, "UTC": UTC, "Path": Path}
    page = doctest.DocTestParser().get_doctest(text, names, PAGE.name, str(PAGE), 0)
    assert len(page.examples) > 10
    runner = doctest.DocTestRunner()
    failures: list[str] = []
    runner.run(page, out=failures.append)
    assert runner.failures == 0, "".join(failures)
