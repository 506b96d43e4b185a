"""Tests of `import cloaca`: its duration, and the names that it defines."""

from __future__ import annotations

import inspect
import os
import re
import resource
import subprocess
import sys

import pytest

import cloaca

#: Modules of the standard library that `import cloaca` must not load. Loading them takes time.
HEAVY = {
    "ast",
    "asyncio",
    "ctypes",
    "dataclasses",
    "datetime",
    "decimal",
    "hashlib",
    "inspect",
    "json",
    "linecache",
    "logging",
    "random",
    "re",
    "signal",
    "sqlite3",
    "threading",
    "traceback",
    "typing",
    "uuid",
}


def python(code: str, cache: str) -> str:
    """Runs code in a new interpreter, which stores bytecode in `cache`, and returns its output."""
    environment = {name: value for name, value in os.environ.items() if "BYTECODE" not in name}
    environment["PYTHONPYCACHEPREFIX"] = cache
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout + done.stderr


def test_the_import_prints_nothing_and_loads_no_heavy_module(tmp_path):
    code = (
        "import sys; before = set(sys.modules); import cloaca; print(*(set(sys.modules) - before))"
    )
    loaded = set(python(code, str(tmp_path)).split())
    assert "cloaca._core" in loaded
    assert not loaded & HEAVY


def test_a_first_execution_loads_no_module_that_it_does_not_need(tmp_path):
    script = tmp_path / "first.py"
    script.write_text(
        "import sys, cloaca\n"
        "with cloaca.WorkflowBuilder('single'):\n"
        "    @cloaca.task(id='only')\n"
        "    def only(context):\n"
        "        context['done'] = True\n"
        f"with cloaca.DefaultRunner('sqlite:///{tmp_path}/first.db') as runner:\n"
        "    assert runner.execute('single').final_context['done']\n"
        "print(*sys.modules)\n"
    )
    run = f"exec(compile(open({str(script)!r}).read(), {str(script)!r}, 'exec'))"
    without = set(python("import sys; print(*sys.modules)", str(tmp_path)).split())
    loaded = set(python(run, str(tmp_path)).split()) - without
    assert "cloaca._tasks.fingerprint" in loaded
    assert not loaded & {
        *("ast", "hashlib", "json", "linecache", "re", "tokenize", "weakref"),
        *("cloaca._executions.history", "cloaca._executions.listing"),
        *("cloaca._workers.steps", "cloaca._workers.task_handle"),
    }


def test_the_import_adds_at_most_20_ms(tmp_path):
    def processor_seconds(code):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python(code, str(tmp_path))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    python("import cloaca", str(tmp_path))
    # Only the fastest round counts, because a busy machine makes some rounds slower. The limit is
    # for a machine that starts a bare interpreter in 8 ms; slower machines get more time.
    bare, full = [], []
    for _ in range(40):
        bare.append(processor_seconds("pass"))
        full.append(processor_seconds("import cloaca"))
        limit = 0.020 * max(1.0, min(bare) / 0.008)
        if len(full) >= 5 and min(full) - min(bare) < limit:
            break
    assert min(full) - min(bare) < limit


def test_all_lists_every_public_name():
    assert sorted(cloaca.__all__) == sorted(set(cloaca.__all__))
    # Modules are skipped: `cloaca.testing`, for example, is an attribute once it has been imported.
    public = {
        name
        for name in dir(cloaca)
        if not name.startswith("_") and not inspect.ismodule(getattr(cloaca, name))
    }
    assert public == set(cloaca.__all__) - {"__version__"}


@pytest.mark.parametrize("name", sorted(set(cloaca.__all__) - {"__version__"}))
def test_everything_public_is_documented(name):
    thing = getattr(cloaca, name)
    documentation = inspect.getdoc(thing) or ""
    assert len(documentation) > 20
    assert re.search(r"Since 1\.\d", documentation)
    if not inspect.isclass(thing) or issubclass(thing, (Exception, str)) or name == "Context":
        return
    for member, value in vars(thing).items():
        if member.startswith("_"):
            continue
        if isinstance(value, (property, staticmethod)) or inspect.isfunction(value):
            text = inspect.getdoc(getattr(thing, member, None) or value) or ""
            assert re.search(r"Since 1\.\d", text), f"{name}.{member}"


def test_testing_module_is_loaded_on_first_access(tmp_path):
    code = """
import sys, cloaca
assert "cloaca.testing" not in sys.modules
print(cloaca.testing.run_task.__name__)
try:
    cloaca.DefaultRuner
except AttributeError as error:
    print(error, error.name)
"""
    told = python(code, str(tmp_path)).splitlines()
    assert told == ["run_task", "module 'cloaca' has no attribute 'DefaultRuner' DefaultRuner"]


def test_names_of_earlier_releases_are_the_same_objects():
    assert cloaca.PipelineResult is cloaca.WorkflowResult
    assert cloaca.PipelineStatus is cloaca.WorkflowStatus
