"""Fingerprints of functions, and versions of workflows (semantics A4)."""

from __future__ import annotations

import importlib
import linecache
import os
import pathlib
import subprocess
import sys
import textwrap
import time

import pytest

import cloaca
import fingerprint_samples as samples
from cloaca._tasks.fingerprint import fingerprint

GOLDEN = {
    "simple": "af5da497433e3610",
    "everything": "22e9684013efe7a7",
    "with_default": "5f79aca5b35b9874",
    "decorated": "49bd0b63e2ef70eb",
    "Holder.method": "d9a4072b35fc56c3",
    "the_lambda": "10faca5d354b43f5",
    "partial": "ba9a8751bbedcf24",
    "Holder": "3b0971a06dffb4bd",
}


def function(code, name="f", filename=None, **names):
    """Returns the function that a source text defines. `inspect` can find the source text."""
    source = textwrap.dedent(code)
    filename = filename or f"<cloaca-test-{abs(hash(source))}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), names)
    return names[name]


BASE = """
    def f(context):
        context["a"] = 1
"""


@pytest.mark.parametrize(
    "code",
    [
        "def f(context):\n    context['a'] = 1",
        "def f(context):\n    '''Documented.'''\n    context['a'] = (1)",
        "# moved\n\n\ndef f(\n    context,\n):\n    # why\n    context['a'] = 1\n\n",
        "def f(context: dict) -> None:\n        context[\n  'a'] = 0x1",
        "import functools as t\n@t.cache\n@t.cache\ndef f(context):\n    context['a'] = 1",
        "if True:\n    def f(context):\n        context['a'] = 1\n    x = 1",
        "class A:\n    def f(context):\n        context['a'] = 1\nf = A.f",
    ],
)
def test_a4_fingerprint_does_not_depend_on_formatting(code):
    f = function(code)
    assert fingerprint(getattr(f, "__wrapped__", f).__wrapped__ if "cache" in code else f) == (
        fingerprint(function(BASE))
    )


@pytest.mark.parametrize(
    "code",
    [
        "def f(context):\n    context['a'] = 2",
        "def f(context):\n    context['a'] = 1.0",
        "def f(context):\n    context['a'] = True",
        "def f(context):\n    context['b'] = 1",
        "def f(context):\n    context['a'] = 1\n    pass",
        "def f(c):\n    c['a'] = 1",
        "def f(context, x=1):\n    context['a'] = 1",
        "async def f(context):\n    context['a'] = 1",
        "def g(context):\n    context['a'] = 1\nf = g",
        "f = lambda context: None",
    ],
)
def test_a4_the_fingerprint_depends_on_the_code(code):
    assert fingerprint(function(code)) != fingerprint(function(BASE))


def test_a4_fingerprint_depends_on_the_values_of_defaults():
    code = "def f(context, x=value): pass"
    prints = [fingerprint(function(code, value=value)) for value in (1, 2, "1", (1,), [1], None)]
    # Only the tuple and the list have equal fingerprints.
    assert len(set(prints)) == len(prints) - 1
    assert fingerprint(function(code, value={"a", "b"})) == fingerprint(
        function(code, value={"b", "a"})
    )
    assert fingerprint(function(code, value=object())) == fingerprint(
        function(code, value=object())
    )


def test_a4_fingerprint_ignores_the_private_module_of_a_default_value():
    code = "def f(context, x=value): pass"
    same_name = type("RetryPolicy", (), {"__module__": "cloaca"})
    assert fingerprint(function(code, value=cloaca.RetryPolicy.default())) == fingerprint(
        function(code, value=same_name())
    )


def test_a4_fingerprints_of_functions_with_one_line_or_name_differ():
    two = "f, g = lambda c: 1, lambda c: 2"
    assert fingerprint(function(two)) != fingerprint(function(two, "g"))
    code = """
        def f(context):
            return 1

        g = f

        def f(context):
            return 2
    """
    assert fingerprint(function(code)) != fingerprint(function(code, "g"))


def test_a4_a_function_without_source_has_a_fingerprint_too():
    names: dict[str, object] = {}
    exec("def f(context): return 1\ndef g(context): return 2", names)
    exec("def h(context): return 1", names)
    assert len(fingerprint(names["f"])) == 16
    assert fingerprint(names["f"]) != fingerprint(names["g"])


def test_a4_fingerprint_covers_wrapper_and_wrapped_function():
    def other(function):
        def wrapper(*args):
            return function(*args)

        wrapper.__wrapped__ = function
        return wrapper

    def f(context):
        return None

    assert len({fingerprint(g) for g in (f, samples.decorate(f), other(f))}) == 3


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a4_fingerprints_are_the_same_on_every_python_release(name):
    value = samples
    for part in name.split("."):
        value = getattr(value, part)
    assert fingerprint(value() if name == "Holder" else value) == GOLDEN[name]


def version(define, **options):
    builder = cloaca.WorkflowBuilder(options.pop("name", "versioned"))
    with builder:
        define(**options)
    return builder.build().version


def two(body=samples.simple, **options):
    cloaca.task(id="a")(samples.simple)
    cloaca.task(**{"id": "b", "dependencies": ["a"], **options})(body)


def test_a4_each_change_of_behaviour_changes_the_version():
    base = version(two)
    assert version(two) == base
    assert len(base) == 16
    changed = [
        version(two, name="other"),
        version(two, dependencies=[]),
        version(two, id="c"),
        version(two, body=samples.with_default),
        version(two, retry_attempts=2),
        version(two, timeout=5),
        version(two, trigger_rule="always"),
    ]
    assert len({base, *changed}) == len(changed) + 1


def test_a4_description_and_tags_do_not_change_the_version():
    builder = cloaca.WorkflowBuilder("versioned")
    with builder:
        two()
    before = builder.build().version
    builder.description("text").tag("a", "b")
    assert builder.build().version == before


def test_a4_fingerprint_depends_on_tuple_order_but_not_set_order():
    def compiled(expression):
        scope = {}
        exec(f"def f(context): return {expression}", scope)
        return fingerprint(scope["f"])

    assert compiled("(1, 2)") != compiled("(2, 1)")
    assert compiled("((1, 'b'), 'a')") != compiled("('a', (1, 'b'))")
    # The hashes of 8 and 16 collide, so these two sets have different orders. Both set displays are
    # written with 0 first, because Python 3.14 also stores the first constant of a set display
    # outside the set.
    assert compiled("context in {0, 8, 16}") == compiled("context in {0, 16, 8}")


def test_a4_path_default_has_the_same_fingerprint_in_every_python():
    path = function("def f(context, path=path): pass", path=pathlib.Path("x"))
    assert fingerprint(path) == "f14f5ae6a11b8fb6"


def closing_over(value):
    def function(context):
        return value

    return function


def test_a4_value_that_contains_itself_has_a_fingerprint():
    table: dict[str, object] = {"rows": [1]}
    table["self"] = table
    again: dict[str, object] = {"rows": [1]}
    again["self"] = again
    assert fingerprint(closing_over(table)) == fingerprint(closing_over(again))
    table["rows"] = [2]
    assert fingerprint(closing_over(table)) != fingerprint(closing_over(again))


def test_a4_deep_large_and_long_values_have_a_fingerprint():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    wide = [[{"row": number, "values": set(range(50))} for number in range(10_000)]] * 100
    values = [deep, wide, set(range(1_000_000)), 10**10_000, "x" * 1_000_000, b"x" * 1_000_000]
    start = time.monotonic()
    assert len({fingerprint(closing_over(value)) for value in values}) == len(values)
    assert time.monotonic() - start < 10
    assert fingerprint(closing_over("x" * 200_000)) != fingerprint(closing_over("y" * 200_000))
    assert fingerprint(closing_over({(1, 2), (3, (4, 5))})) == fingerprint(
        closing_over({(3, (4, 5)), (1, 2)})
    )


def test_a4_version_follows_a_reloaded_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(number: int) -> None:
        (tmp_path / "reloaded_flow.py").write_text(
            "import cloaca\n\nwith cloaca.WorkflowBuilder('reloaded') as builder:\n\n"
            f"    @cloaca.task\n    def a(context):\n        context['x'] = {number}\n"
        )

    write(1)
    module = importlib.import_module("reloaded_flow")
    first = module.builder.build().version
    write(2222)
    # A change of the file does not affect the version of the code that is already loaded.
    assert module.builder.build().version == first
    second = importlib.reload(module).builder.build().version
    assert second != first
    write(1)
    assert importlib.reload(module).builder.build().version == first


def test_a4_touched_file_does_not_change_the_version_of_loaded_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "touched_flow.py"
    file.write_text(
        "def make():\n    count = 0\n\n    def a(context):\n        nonlocal count\n"
        "        count += 1\n\n    return a\n"
    )
    function = importlib.import_module("touched_flow").make()
    before = fingerprint(function)
    os.utime(file, (1, 1))
    assert fingerprint(function) == before


@pytest.mark.parametrize(
    "source",
    [
        b"\xef\xbb\xbfdef f(context):\n    context['\xc3\xa9'] = 1\n",
        b"def f(context):\r\n    context['a'] = '''1\r\n2'''\r\n",
        b"def f(context):\n    context['a'] = 1",
        b"# -*- coding: latin-1 -*-\ndef f(context):\n    context['\xe9'] = 1\n",
        b"def g(): pass\n\nasync  def   f (context):\n    context['a'] = 1\n\n\ndef ff(): pass\n",
        b"def d(x): return x\n@d\n\n@d\ndef f(context):\n\tcontext['a'] = 1\n",
        b"def ff(): pass\ndef f(context): context['a'] = 1\ndef f_(): pass\n",
    ],
)
def test_a4_fingerprint_is_the_same_without_linecache(source, tmp_path):
    path = tmp_path / "of_test.py"
    path.write_bytes(source)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import of_test
from cloaca._tasks.fingerprint import fingerprint
print(fingerprint(of_test.f), "linecache" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    without = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    command[2] = f"import linecache{code}"
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert loaded == [without[0], "True"]
    assert without[1] == str(b"coding" in source)
