"""Functions written for tasks without types get the same arguments from the resolver (J2).

For every function that `@cloaca.task` decorates in the tests, examples and documentation, the rule
that applied before typed tasks is compared with the resolver.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from cloaca._tasks.parameters import read_signature
from cloaca._tasks.resolver import Scope, resolve
from cloaca._values.exceptions import TaskValidationError

ROOT = Path(__file__).resolve().parent.parent
#: Files about typed tasks, whose functions the former rule refused.
TYPED = re.compile(
    r"typed|tests/typing|test_groups|test_resources|test_cli_check|test_error_codes|steps|children|run-other-workflows|agents-and-loops|waits|waiting|workflow_function|http|web|mistakes|approval|reminder|agent|maps|map_items|final|clean-up|cli_signals|forward_references|reproducers|migrate-from-others|word_counts|pages_of_maps|crawl|payloads|compensation|gather|heard_signals|lost_write|sustained_workloads"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[tuple[str, str]]:
    """The programs in the repository, with their places."""
    for folder in ("tests", "examples", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if not TYPED.search(str(file.relative_to(ROOT))):
                yield str(file.relative_to(ROOT)), text
                for string in strings(text):
                    yield f"{file.relative_to(ROOT)} (a program in it)", string
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if TYPED.search(file.name):
            continue
        for block in re.findall(
            r"```python\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL
        ):
            yield str(file.relative_to(ROOT)), block


def strings(text: str) -> Iterator[str]:
    """The programs that a test contains as strings."""
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
    """The tasks of each block of a builder, and each task outside of one."""
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
    """A function with the same parameters, whose defaults and annotations are not evaluated."""
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
    """The former rule: the handle by name, and the context to the first other parameter."""
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
    """Each task with its place and the ids of the tasks of its block."""
    for place, text in sources():
        if "cloaca.task" not in text:
            continue
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue  # a part of a program
        for block in blocks(tree):
            ids = [id_of(function) for function in block]
            for function in block:
                yield f"{place}: {function.name}, line {function.lineno}", function, ids


def test_j2_functions_without_types_get_the_same_arguments_as_before():
    compared = 0
    differences = []
    for place, function, ids in cases():
        before = arguments_before(function)
        if before is None:
            continue
        compared += 1
        scope = Scope(
            id_of(function),
            id_of(function),
            find=lambda name, ids=ids: name if name in ids else None,
            keys={id: id for id in ids},
        )
        try:
            call = resolve(read_signature(stub(function), id_of(function)), scope)
        except TaskValidationError as error:
            differences.append(f"{place}: {error.message}")
            continue
        if (list(call.positional), list(call.named)) != before:
            differences.append(f"{place}: {ast.unparse(function.args)}")
    assert differences == []
    assert compared > 400
