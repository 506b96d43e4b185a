"""The private packages of `cloaca` import only packages below them, and no modules form a cycle.

ARCHITECTURE.md describes the packages. These tests read the sources, because Python accepts an
import cycle if one of its imports runs late enough. Imports inside functions and under
`TYPE_CHECKING` also count: a module depends on the module of a class even if it uses the class only
in annotations. A module that needs a class of a higher package declares the needed members in a
`Protocol`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parent.parent / "python" / "cloaca"

# The order of the packages and of the modules at the root. Each can import only the entries below
# it; a package can also import its own modules.
ORDER = (
    "__main__",
    "__init__",
    "testing",
    "web",
    "_cli",
    "_web",
    "_testing",
    "_core_setup",
    "_runner",
    "_workers",
    "_schedules",
    "_observe",
    "_executions",
    "_workflows",
    "_tasks",
    "_retry",
    "_values",
    "_core",
)

Modules = Mapping[str, str]


@cache
def package() -> Modules:
    """Returns the sources of the package's modules, by their names relative to `cloaca`."""
    return {
        ".".join(file.relative_to(SOURCES).with_suffix("").parts): file.read_text(encoding="utf-8")
        for file in sorted(SOURCES.rglob("*.py"))
    }


def imported(source: str) -> Iterator[str]:
    """Yields the names in `cloaca` that a source imports; `__init__` stands for `cloaca` itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} has a relative import; write the full path"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            root, _, path = name.partition(".")
            if root == "cloaca":
                yield path or "__init__"


def between_modules(modules: Modules) -> dict[str, set[str]]:
    """Returns the modules that each module imports."""
    graph: dict[str, set[str]] = {}
    for name, source in modules.items():
        graph[name] = set()
        for path in imported(source):
            parts = path.split(".")
            known = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
            for target in known:
                if target in modules or target == "_core":
                    break
                if f"{target}.__init__" in modules:
                    target = f"{target}.__init__"
                    break
            else:
                target = "__init__"
            graph[name].add(target)
    return graph


def upward_imports(graph: dict[str, set[str]]) -> list[str]:
    """Returns a line for each import that contradicts `ORDER`."""
    return [
        f"{module} may not import {target}"
        for module, targets in graph.items()
        for target in sorted(targets)
        if ORDER.index(target.split(".")[0]) < ORDER.index(module.split(".")[0])
    ]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Returns the modules of an import cycle; an empty list if there is no cycle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_every_package_has_its_place_in_the_order() -> None:
    there = {name.split(".")[0] for name in package()} | {"_core"}
    assert there == set(ORDER)


def test_each_package_imports_only_packages_below_it() -> None:
    found = upward_imports(between_modules(package()))
    assert not found, "\n".join(found)


def test_the_modules_form_no_import_cycle() -> None:
    assert not cycle(between_modules(package()))


def test_packages_re_export_nothing() -> None:
    # Without re-exports, each name has one path, and loading a module does not load the rest of its
    # package.
    full = {
        name
        for name, source in package().items()
        if name.endswith(".__init__")
        and name != "_cli.__init__"
        and len(ast.parse(source).body) != 1
    }
    assert not full


@pytest.mark.parametrize(
    "source",
    [
        "from cloaca._tasks.b import B",
        "from cloaca._tasks import b",
        "import cloaca._tasks.b",
        "def f():\n    from cloaca._tasks.b import B",
        "if TYPE_CHECKING:\n    from cloaca._tasks.b import B",
    ],
)
def test_each_form_of_import_counts_in_a_cycle(source: str) -> None:
    modules = {
        "_tasks.__init__": '"""Tasks."""',
        "_tasks.a": source,
        "_tasks.b": "from cloaca._tasks.a import A",
    }
    assert set(cycle(between_modules(modules))) == {"_tasks.a", "_tasks.b"}


@pytest.mark.parametrize(
    "source",
    ["from cloaca._runner.a import A", "from cloaca import task", "import cloaca"],
)
def test_an_upward_import_is_found(source: str) -> None:
    modules = {"__init__": "", "_runner.a": "class A: ...", "_tasks.a": source}
    (found,) = upward_imports(between_modules(modules))
    assert found.startswith("_tasks.a may not import ")
