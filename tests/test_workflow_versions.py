"""A new release of the package or of Python does not change a workflow's version (A4, J11).

If the version changed, the engine would treat unchanged code as a new version of the workflow.
The expected versions are in `tests/golden/workflows.json`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

import cloaca
import corpus_workflows
import golden_workflows
from cloaca._workflows.registry import registry

TESTS = Path(__file__).parent
GOLDEN: dict[str, str] = json.loads((TESTS / "golden" / "workflows.json").read_text())


def version_of(name: str) -> str:
    workflow = registry.workflow(name)
    assert workflow is not None
    return workflow.version


def define(function, *, typed: bool = True) -> str:
    """Defines a golden workflow, with or without the type of its input, and returns its version."""
    options = {"input": golden_workflows.INPUTS.get(function)} if typed else {}
    with cloaca.WorkflowBuilder(f"golden_{function.__name__}", **options) as builder:
        if function is golden_workflows.waits:
            builder.cancel_on(cloaca.signal("order.cancelled", key="order_id"))
        function()
    return builder.build().version


@pytest.mark.parametrize("function", golden_workflows.DEFINED, ids=lambda f: f.__name__)
def test_a4_version_of_a_workflow_never_changes(function):
    assert define(function) == GOLDEN[function.__name__]


@pytest.mark.parametrize("function", golden_workflows.FUNCTIONS, ids=lambda f: f.__name__)
def test_a4_version_of_a_workflow_function_never_changes(function):
    assert version_of(function.__name__) == GOLDEN[function.__name__]


def test_a4_every_golden_version_is_tested():
    tested = (*golden_workflows.DEFINED, *golden_workflows.FUNCTIONS)
    assert list(GOLDEN) == [function.__name__ for function in tested]
    assert len(set(GOLDEN.values())) == len(tested)


def test_j11_type_of_the_input_does_not_change_the_version():
    function = golden_workflows.finals
    assert define(function, typed=False) == GOLDEN[function.__name__]


@pytest.mark.parametrize(
    "path", sorted((TESTS / "corpus").glob("*.db")), ids=lambda path: path.name
)
def test_a4_version_matches_a_database_of_an_earlier_release(path):
    # The program that made the database passed another function as `on_hold`. The version does not
    # cover this function.
    corpus_workflows.define(on_hold=print)
    with contextlib.closing(
        sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    ) as stored:
        versions = stored.execute("SELECT workflow, version FROM cloacina_definitions").fetchall()
    assert versions == [("corpus", version_of("corpus"))]
