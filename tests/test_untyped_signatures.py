"""Functions without types get the same arguments as before typed tasks existed (semantics J2).

The resolver decides which arguments a task's function gets. These tests compare the resolver with
the rule that applied before typed tasks existed (the *former rule*), for the functions that
`@cloaca.task` decorates in the tests, examples, benchmarks and documentation. Two kinds of
functions are left out: those that the former rule refused, and those in the files in `TYPED`.
"""

from __future__ import annotations

import ast
import contextlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloaca._tasks.parameters import read_signature
from cloaca._tasks.resolver import Scope, resolve
from cloaca._values.exceptions import TaskValidationError

ROOT = Path(__file__).resolve().parent.parent
#: Files with at least one function of a typed task for which the resolver and the former rule
#: differ. A function that the former rule refused does not count as a difference.
TYPED = frozenset(
    {
        "benchmarks/peers/cloaca_peer.py",
        "benchmarks/sustained_workloads.py",
        "docs/how-to/clean-up-and-compensate.md",
        "docs/how-to/maps.md",
        "docs/how-to/migrate-from-others.md",
        "docs/how-to/run-other-workflows.md",
        "docs/tutorials/09-typed-tasks.md",
        "docs/tutorials/10-waiting.md",
        "examples/09_typed_tasks.py",
        "examples/10_waiting.py",
        "examples/approval_form.py",
        "examples/crawl.py",
        "examples/word_counts.py",
        "tests/children_fleet.py",
        "tests/children_support.py",
        "tests/final_support.py",
        "tests/golden_workflows.py",
        "tests/mistakes_of_definitions.py",
        "tests/test_attempt_metrics.py",
        "tests/test_child_ends.py",
        "tests/test_children.py",
        "tests/test_children_of_code.py",
        "tests/test_cli_check.py",
        "tests/test_cli_signals.py",
        "tests/test_compensation.py",
        "tests/test_docs_http.py",
        "tests/test_final_maps.py",
        "tests/test_final_nodes.py",
        "tests/test_final_tasks.py",
        "tests/test_forward_references.py",
        "tests/test_groups.py",
        "tests/test_map_children.py",
        "tests/test_map_generations.py",
        "tests/test_map_items.py",
        "tests/test_map_kinds.py",
        "tests/test_map_rows.py",
        "tests/test_maps.py",
        "tests/test_maps_kill.py",
        "tests/test_maps_of_maps.py",
        "tests/test_mixed_typed.py",
        "tests/test_payloads.py",
        "tests/test_reproducers.py",
        "tests/test_resources.py",
        "tests/test_run_log.py",
        "tests/test_steps_waiting.py",
        "tests/test_testing.py",
        "tests/test_typed_constraints.py",
        "tests/test_typed_defaults.py",
        "tests/test_typed_input.py",
        "tests/test_typed_keys.py",
        "tests/test_typed_program.py",
        "tests/test_typed_results.py",
        "tests/test_typed_tasks.py",
        "tests/test_typed_values.py",
        "tests/test_waits.py",
        "tests/test_waits_crash.py",
        "tests/test_waits_rules.py",
        "tests/test_web_flow.py",
        "tests/test_web_requests.py",
        "tests/typed_support.py",
        "tests/typing/accepted.py",
        "tests/typing/refused_by_both.py",
        "tests/web/conftest.py",
        "tests/web/test_live.py",
        "tests/web/test_maps.py",
        "tests/web/test_scale.py",
    }
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[tuple[str, str]]:
    """Returns the programs in the repository, with the names of their files."""
    for folder in ("tests", "examples", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            yield str(file.relative_to(ROOT)), text
            for string in strings(text):
                yield str(file.relative_to(ROOT)), string
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = file.read_text(encoding="utf-8")
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            yield str(file.relative_to(ROOT)), block


def strings(text: str) -> Iterator[str]:
    """Returns the programs that a Python file contains as strings."""
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and "@cloaca.task" in node.value
        ):
            yield textwrap.dedent(node.value)


def is_task(function: Function) -> bool:
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(called) in {"cloaca.task", "task"}:
            return True
    return False


def blocks(tree: ast.Module) -> Iterator[list[Function]]:
    """Returns the tasks of each `WorkflowBuilder` block, and each task outside these blocks."""
    inside: set[Function] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and "WorkflowBuilder" in ast.unparse(node.items[0]):
            found = [
                part for part in ast.walk(node) if isinstance(part, Function) and is_task(part)
            ]
            inside.update(found)
            yield found
    for node in ast.walk(tree):
        if isinstance(node, Function) and is_task(node) and node not in inside:
            yield [node]


def id_of(function: Function) -> str:
    for decorator in function.decorator_list:
        for keyword in getattr(decorator, "keywords", ()):
            if keyword.arg == "id" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return function.name


def stub(function: Function) -> object:
    """Returns a function with the same parameters, without evaluating defaults or annotations."""
    arguments = function.args
    for defaults in (arguments.defaults, arguments.kw_defaults):
        defaults[:] = [default and ast.Constant(None) for default in defaults]
    twin = type(function)(function.name, arguments, [ast.Pass()], [], None, None)
    if hasattr(function, "type_params"):
        twin.type_params = []  # type: ignore[attr-defined]
    module = ast.fix_missing_locations(ast.Module([twin], []))
    names: dict[str, object] = {}
    exec(compile(module, "<stub>", "exec", flags=annotations_flag()), names)
    return names[function.name]


def annotations_flag() -> int:
    import __future__

    return __future__.annotations.compiler_flag


def arguments_before(function: Function) -> tuple[list[str], list[tuple[str, str]]] | None:
    """Returns the positional and the named arguments that the former rule passed to a function.

    Returns `None` if the former rule refused the function.

    The former rule passed the handle to a parameter named `handle` or `task_handle`, and the
    context to the first other parameter that could be positional, or to a keyword-only `context`.
    """
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    without = len(plain) - len(arguments.defaults)
    listed = [(part.arg, "positional", index >= without) for index, part in enumerate(plain)]
    if arguments.vararg:
        listed.append((arguments.vararg.arg, "many", False))
    for part, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        listed.append((part.arg, "named", default is not None))
    positional: list[str] = []
    named: list[tuple[str, str]] = []
    has_context = skipped = False
    for name, kind, has_default in listed:
        if kind == "many" and (has_context or skipped):
            continue
        if name in {"handle", "task_handle"} and kind != "many":
            what = "handle"
        elif not has_context and (kind != "named" or name == "context"):
            what, has_context = "context", True
        elif has_default:
            skipped = skipped or kind == "positional"
            continue
        else:
            return None
        if kind == "named" or skipped:
            named.append((name, what))
        else:
            positional.append(what)
    return positional, named


def cases() -> Iterator[tuple[str, Function, list[str]]]:
    """Returns each task with its file and the ids of all tasks in its block."""
    for file, text in sources():
        if "cloaca.task" not in text:
            continue
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue  # The text is an incomplete program.
        for block in blocks(tree):
            ids = [id_of(function) for function in block]
            for function in block:
                yield file, function, ids


def difference(function: Function, ids: list[str]) -> str | None:
    """Returns the difference between the resolver and the former rule; `None` if they agree.

    Raises:
        LookupError: The former rule refused the function.
    """
    before = arguments_before(function)
    if before is None:
        raise LookupError
    scope = Scope(
        id_of(function),
        id_of(function),
        find=lambda name: name if name in ids else None,
        keys={id: id for id in ids},
    )
    try:
        call = resolve(read_signature(stub(function), id_of(function)), scope)
    except TaskValidationError as error:
        return error.message
    same = (list(call.positional), list(call.named)) == before
    return None if same else ast.unparse(function.args)


@pytest.fixture(scope="module")
def compared() -> dict[str, list[str | None]]:
    """The differences, by file. A function without a difference has the entry `None`."""
    found: dict[str, list[str | None]] = {}
    for file, function, ids in cases():
        with contextlib.suppress(LookupError):
            told = difference(function, ids)
            location = f"{function.name}, line {function.lineno}"
            found.setdefault(file, []).append(told and f"{location}: {told}")
    return found


def test_j2_functions_without_types_get_the_same_arguments_as_before(compared):
    untyped = {file: found for file, found in compared.items() if file not in TYPED}
    assert {file: list(filter(None, found)) for file, found in untyped.items() if any(found)} == {}
    assert sum(map(len, untyped.values())) > 500


def test_j2_every_excluded_file_has_a_difference(compared):
    assert sorted(file for file in TYPED if not any(compared.get(file, ()))) == []
