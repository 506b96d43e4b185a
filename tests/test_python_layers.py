"""The order of the Python package: its packages and modules import each other in one direction.

ARCHITECTURE.md describes the packages. This file reads the sources, as Python accepts a cycle if
one of its imports runs late enough. Imports inside functions and under `TYPE_CHECKING` count too: a
module whose annotations need another module cannot be read without it. A module that needs a part
of a class from a higher module names that part in a `Protocol`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parent.parent / "python" / "cloaca"

# The packages and the modules of the root, from the top: each imports only what follows it.
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
    """The sources of the package's modules by their names below `cloaca`."""
    return {
        ".".join(file.relative_to(SOURCES).with_suffix("").parts): file.read_text(encoding="utf-8")
        for file in sorted(SOURCES.rglob("*.py"))
    }


def imported(source: str) -> Iterator[str]:
    """The names below `cloaca` that a source imports; `__init__` stands for the package itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports with their full path"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            root, _, path = name.partition(".")
            if root == "cloaca":
                yield path or "__init__"


def arrows(modules: Modules) -> dict[str, set[str]]:
    """The modules that each module imports."""
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


def upward(graph: dict[str, set[str]]) -> list[str]:
    """The imports that contradict the order, as sentences."""
    return [
        f"{module} may not import {target}"
        for module, targets in graph.items()
        for target in sorted(targets)
        if ORDER.index(target.split(".")[0]) < ORDER.index(module.split(".")[0])
    ]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a cycle, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_every_package_has_its_place_in_the_order() -> None:
    there = {name.split(".")[0] for name in package()} | {"_core"}
    assert there == set(ORDER)


def test_packages_import_each_other_in_one_direction() -> None:
    found = upward(arrows(package()))
    assert not found, "\n".join(found)


def test_no_modules_import_each_other_in_a_cycle() -> None:
    assert not cycle(arrows(package()))


def test_packages_re_export_nothing() -> None:
    # A name has one path, and loading one module of a package does not load the others.
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
def test_each_form_of_import_closes_a_cycle(source: str) -> None:
    modules = {
        "_tasks.__init__": '"""Tasks."""',
        "_tasks.a": source,
        "_tasks.b": "from cloaca._tasks.a import A",
    }
    assert set(cycle(arrows(modules))) == {"_tasks.a", "_tasks.b"}


@pytest.mark.parametrize(
    "source",
    ["from cloaca._runner.a import A", "from cloaca import task", "import cloaca"],
)
def test_an_import_that_points_up_is_found(source: str) -> None:
    modules = {"__init__": "", "_runner.a": "class A: ...", "_tasks.a": source}
    (found,) = upward(arrows(modules))
    assert found.startswith("_tasks.a may not import ")
