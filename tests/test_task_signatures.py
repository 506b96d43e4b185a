"""`task`, `workflow` and `external_task` share options, which each signature lists in full."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import cloaca

WORKFLOWS = Path(cloaca.__file__).parent / "_workflows"
#: Options of `task` that make sense only in a graph with other tasks.
GRAPH_ONLY = {"dependencies", "final", "id", "undoes", "workflow"}
#: Options that only `workflow` has.
WORKFLOW_ONLY = {"input", "finals"}

Options = dict[str, tuple[str, str]]


def definitions(file: str, name: str) -> list[ast.FunctionDef]:
    """Returns a function's definitions in a module: the overloads, then the implementation."""
    tree = ast.parse((WORKFLOWS / file).read_text(encoding="utf-8"))
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name
    ]


def options_of(function: ast.FunctionDef) -> Options:
    """Returns the annotation and the default of each keyword-only parameter."""
    given = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return {
        parameter.arg: (
            ast.unparse(parameter.annotation) if parameter.annotation else "",
            ast.unparse(default) if default else "",
        )
        for parameter, default in given
    }


def implementation(name: str) -> ast.FunctionDef:
    file = "function.py" if name == "workflow" else "task.py"
    return max(definitions(file, name), key=lambda function: len(function.body))


@pytest.mark.parametrize("name", ["task", "workflow"])
def test_overload_and_function_take_the_same_options(name: str) -> None:
    file = "function.py" if name == "workflow" else "task.py"
    lists = [options_of(function) for function in definitions(file, name)]
    full = [options for options in lists if options]
    assert len(full) == 2
    assert list(full[0].items()) == list(full[1].items())


def test_workflow_takes_every_option_of_a_task_that_needs_no_graph() -> None:
    task, workflow = options_of(implementation("task")), options_of(implementation("workflow"))
    assert set(task) - GRAPH_ONLY == set(workflow) - WORKFLOW_ONLY
    shared = [name for name in workflow if name not in WORKFLOW_ONLY]
    assert {name: workflow[name] for name in shared} == {name: task[name] for name in shared}


def test_external_task_declares_shared_options_like_task() -> None:
    task, external = options_of(implementation("task")), options_of(implementation("external_task"))
    assert external.items() <= task.items()


def test_workflow_passes_every_option_to_its_task() -> None:
    (passed,) = [
        node.value
        for node in ast.walk(implementation("workflow"))
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)
    ]
    names = [key.value for key in passed.keys if isinstance(key, ast.Constant)]
    own = {*WORKFLOW_ONLY, "output"}
    assert names == [name for name in options_of(implementation("workflow")) if name not in own]
    assert [ast.unparse(value) for value in passed.values] == names


@pytest.mark.parametrize("name", ["task", "workflow", "external_task"])
def test_every_option_is_documented_in_the_order_of_the_signature(name: str) -> None:
    text = inspect.getdoc(getattr(cloaca, name)) or ""
    positions = [text.find(f"\n    {option}: ") for option in options_of(implementation(name))]
    assert -1 not in positions
    assert positions == sorted(positions)
