"""Examples in docstrings print the output that they show.

The test runs an example only if the example defines every name that it uses. Other examples only
show syntax.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import inspect
from pathlib import Path

import pytest

import cloaca
from test_docs_names import DOCUMENTED

PARSER = doctest.DocTestParser()
TEXTS = {
    name: text
    for name, found in DOCUMENTED.items()
    if ">>>" in (text := inspect.getdoc(found) or "")
}


def code_of(name: str) -> str:
    return "".join(example.source for example in PARSER.get_examples(TEXTS[name]))


def missing_names(code: str) -> set[str]:
    """Returns the names that a piece of code uses but does not define."""
    used: set[str] = set()
    made = {*dir(builtins), "cloaca"}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.alias):
            made.add(node.asname or node.name)
    return used - made


WHOLE = [
    name
    for name in TEXTS
    if any(example.want for example in PARSER.get_examples(TEXTS[name]))
    and not missing_names(code_of(name))
]


@pytest.mark.parametrize("name", WHOLE)
def test_output_of_docstring_examples_is_right(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    session = PARSER.get_doctest(TEXTS[name], {"cloaca": cloaca}, name, None, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(session, out=told.append)
    assert not runner.failures, "".join(told)


@pytest.mark.parametrize("name", TEXTS)
def test_docstring_example_is_valid_python(name: str) -> None:
    ast.parse(code_of(name))


def test_complete_examples_are_recognised() -> None:
    assert not missing_names("import cloaca\nfor x in [1]:\n    print(x, cloaca.__version__)")
    assert missing_names("runner.submit('etl')") == {"runner"}
    assert "RetryPolicyBuilder" in WHOLE
