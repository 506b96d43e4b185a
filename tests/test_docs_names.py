"""Every name in the documentation exists in the package, and every public name is documented."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Iterator

import pytest

import cloaca
from cloaca._cli._commands import COMMANDS
from cloaca._runner.settings import ALIASES, SETTINGS
from documentation import DOCS, pages

PAGES = pages()
RUST = DOCS / "reference" / "rust.md"
#: The possible classes of each variable that the documentation uses without defining it.
KINDS: dict[str, list[type]] = {
    "builder": [cloaca.WorkflowBuilder],
    "config": [cloaca.DefaultRunnerConfig],
    "context": [cloaca.Context],
    "handle": [cloaca.WorkflowHandle, cloaca.TaskHandle],
    "result": [cloaca.WorkflowResult],
    "runner": [cloaca.DefaultRunner],
    "workflow": [cloaca.Workflow],
}
DOTTED = re.compile(r"(?<![\w./-])(cloaca|" + "|".join(KINDS) + r")\.([A-Za-z]\w*(?:\.\w+)*)")
PRIVATE = re.compile(r"(?:^|\s)Private(?:\.|:)")
# Suffixes of file names. `steps.py`, for example, is not an attribute of `steps`.
FILES = {"md", "py", "rs", "db", "toml", "yml", "txt"}


def is_known(owner: str, path: str) -> bool:
    """Returns whether an attribute exists in the package or in a class of the variable `owner`."""
    if owner != "cloaca":
        first = path.partition(".")[0]
        return any(
            hasattr(kind, first) or first in getattr(kind, "__annotations__", {})
            for kind in KINDS[owner]
        )
    found: object = cloaca
    for part in path.split("."):
        if hasattr(found, part):
            found = getattr(found, part)
            continue
        try:
            found = importlib.import_module(f"cloaca.{part}")
        except ImportError:
            # An attribute of instances has an annotation or is named in the class's docstring.
            return isinstance(found, type) and (
                part in getattr(found, "__annotations__", {}) or part in (found.__doc__ or "")
            )
    return True


def test_every_name_in_the_documentation_exists() -> None:
    unknown = {
        f"{page.name}: {owner}.{path}"
        for page in PAGES
        for span in page.spans()
        for owner, path in DOTTED.findall(span)
        # On this page the variables belong to a Rust program.
        if owner == "cloaca" or page.path != RUST
        if path.rpartition(".")[2] not in FILES and not is_known(owner, path)
    }
    assert not unknown, "\n".join(sorted(unknown))


def test_name_check_finds_unknown_names() -> None:
    assert is_known("cloaca", "DefaultRunner.submit")
    assert is_known("runner", "list_executions")
    assert not is_known("cloaca", "DefaultRunner.sumbit")
    assert not is_known("cloaca", "nothing")
    assert not is_known("handle", "nothing")


def test_every_command_in_the_documentation_exists() -> None:
    for page in PAGES:
        shells = [block.code for block in page.blocks if block.language in {"sh", "console"}]
        lines = page.spans() + [line for code in shells for line in code.splitlines()]
        for line in lines:
            used = re.match(r"(?:\$ )?cloaca ([a-z][\w-]*)", line)
            assert not used or used[1] in COMMANDS, f"{page.name}: no such command: {line}"


def test_every_documented_environment_variable_exists() -> None:
    known = {f"CLOACA_{name.upper()}" for name in [*SETTINGS, *ALIASES]}
    known |= {"CLOACA_DATABASE_URL", "CLOACA_LOG_LEVEL", "CLOACA_UI_TOKEN"}
    for page in PAGES:
        if DOCS not in page.path.parents:
            continue  # Pages outside the site also name variables of the project's own commands.
        for name in re.findall(r"\bCLOACA_[A-Z_]+[A-Z]\b", page.text):
            assert name in known, f"{page.name}: no such variable: {name}"


def test_every_public_name_is_in_the_reference_once() -> None:
    text = "".join(path.read_text() for path in (DOCS / "reference" / "python").glob("*.md"))
    named = re.findall(r"^::: cloaca\.(\w+)$", text, re.MULTILINE)
    assert len(named) == len(set(named))
    aliases = {name for name in cloaca.__all__ if getattr(cloaca, name).__doc__ and is_alias(name)}
    assert set(named) == set(cloaca.__all__) - aliases - {"__version__"}
    for alias in aliases:
        assert f"`cloaca.{alias}`" in text


def is_alias(name: str) -> bool:
    """Returns whether a public name is a second name of a class."""
    found = getattr(cloaca, name)
    return isinstance(found, type) and found.__name__ != name


def documented() -> Iterator[tuple[str, object]]:
    """Yields every public function and class, and the public members of each class.

    Members that a class inherits from another class of cloaca are included.
    """
    for name in cloaca.__all__:
        found = getattr(cloaca, name)
        if name == "__version__" or is_alias(name):
            continue
        yield name, found
        if not isinstance(found, type):
            continue
        for base in found.__mro__:
            if not base.__module__.startswith(("cloaca", "builtins")) or base is object:
                continue
            if base.__module__ == "builtins" and base is not cloaca.Context:
                continue
            for member, value in vars(base).items():
                is_code = callable(value) or isinstance(value, (property, staticmethod))
                is_code = is_code or inspect.isdatadescriptor(value)
                if member.startswith("_") or not is_code or inspect.ismemberdescriptor(value):
                    continue
                if not isinstance(value, enum.Enum):
                    yield f"{name}.{member}", getattr(found, member)


DOCUMENTED = dict(documented())


def listed_members() -> dict[str, list[str]]:
    """Returns the members that the reference lists for each class, in the order of the list."""
    text = "".join(path.read_text() for path in (DOCS / "reference" / "python").glob("*.md"))
    lists = re.findall(
        r"^::: cloaca\.(\w+)\n    options:\n      members:\n((?: {8}- \w+\n)+)", text, re.M
    )
    return {owner: re.findall(r"- (\w+)", members) for owner, members in lists}


def test_member_list_in_the_reference_is_complete() -> None:
    lists = listed_members()
    assert "DefaultRunner" in lists
    for owner, members in lists.items():
        there = {name.partition(".")[2] for name in DOCUMENTED if name.startswith(f"{owner}.")}
        assert sorted(members) == sorted(there)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_has_a_docstring_with_its_version(name: str) -> None:
    found = DOCUMENTED[name]
    text = inspect.getdoc(found)
    assert text, f"{name} has no docstring"
    assert text[0].isupper() or text[0] in "`", f"{name} begins with {text[:10]!r}"
    assert re.search(r"Since 1\.\d", text), f"{name} does not say in which version it was added"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_argument_of_a_public_name_is_documented(name: str) -> None:
    found = DOCUMENTED[name]
    if isinstance(found, type):
        if issubclass(found, enum.Enum):
            return
        found = found.__init__  # type: ignore[misc]
    text = inspect.getdoc(found) or ""
    if isinstance(found, property) or not inspect.isfunction(found) or PRIVATE.search(text):
        return
    for parameter in inspect.signature(found).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        listed = re.search(rf"^\s+\*{{0,2}}{parameter.name}: ", text, re.MULTILINE)
        assert listed, f"{name} does not say what {parameter.name!r} is"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_function_documents_its_return_value(name: str) -> None:
    found = DOCUMENTED[name]
    text = inspect.getdoc(found) or ""
    if not inspect.isfunction(found) or PRIVATE.search(text):
        return
    signature = inspect.signature(found)
    if set(signature.parameters) - {"self", "cls"} and signature.return_annotation != "None":
        assert "\nReturns:\n" in text, f"{name} does not say what it returns"
