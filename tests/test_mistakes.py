"""Mistakes of newcomers, as programs. Each is told what is wrong, where, and what to do next.

The numbers come from a trial of 55 typical mistakes. A message may be printed on either stream,
because a newcomer reads both.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mistakes_of_definitions
import mistakes_of_runs
import mistakes_of_values
from mistakes_support import PRELUDE, Mistake, run_program

TESTS = Path(__file__).parent
MISTAKES = sorted(
    [
        *mistakes_of_definitions.MISTAKES,
        *mistakes_of_values.MISTAKES,
        *mistakes_of_runs.MISTAKES,
    ],
    key=lambda mistake: mistake.number,
)

#: Mistakes that have their tests in other files.
ELSEWHERE = {
    12: ["test_connecting.py::", "test_bad_input.py::test_a_url_that_cannot_be_read_is_refused"],
    51: ["test_poison.py::"],
    55: ["test_interruption.py::", "test_cli_running.py::test_ctrl_c"],
}


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=lambda mistake: f"{mistake.number:02}-{mistake.title.split(',')[0]}"
)
def test_mistake_is_reported(mistake: Mistake, tmp_path: Path) -> None:
    for name, text in mistake.files.items():
        (tmp_path / name).write_text(text)
    status, printed = run_program(tmp_path, mistake.program)
    position = 0
    for text in mistake.told:
        found = printed.find(text, position)
        assert found >= 0, f"not told: {text!r}\n{printed}"
        position = found + 1
    assert status == mistake.status, printed
    assert "secret" not in printed


def test_later_task_wins_a_key_that_two_branches_write(tmp_path: Path) -> None:
    """Number 27: the order of the definitions decides (B3), and `explain` names both tasks."""
    program = """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context):
        time.sleep(0.2)
        return {"region": "north"}
    @cloaca.task
    def b(context):
        return {"region": "south"}
run("w")
with cloaca.DefaultRunner(URL, start=False) as runner:
    print(*runner.explain(runner.list_executions()[0].execution_id))
"""
    printed = run_program(tmp_path, program)[1]
    assert "context {'region': 'south'}" in printed
    assert "tasks 'a' and 'b' of workflow 'w' both wrote 'region'" in printed
    assert "The tasks 'a' and 'b' both wrote 'region', and neither depends on the other" in printed


@pytest.mark.parametrize("is_edited", [False, True])
def test_intended_second_definition_is_not_warned_of(tmp_path: Path, is_edited: bool) -> None:
    """Number 10: a function that is called twice, and a module that is edited and reloaded."""
    module = "import cloaca\ndef define(id):\n" + (
        "    with cloaca.WorkflowBuilder('w'):\n        cloaca.task(id=id)(lambda context: None)\n"
    )
    (tmp_path / "other.py").write_text(module)
    edited = "# edited\n" + module if is_edited else module
    program = f"""
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
import importlib, other
other.define("first")
pathlib.Path("other.py").write_text({edited!r})
if {is_edited}:
    importlib.reload(other)
other.define("second")
"""
    status, printed = run_program(tmp_path, program)
    assert status == 0, printed
    assert "INFO workflow 'w' is defined again; this definition replaces the earlier" in printed
    assert "WARNING" not in printed


def test_bound_and_static_methods_are_not_warned_of(tmp_path: Path) -> None:
    """Number 30: only a parameter `self` that nothing is bound to receives the context."""
    program = """
class Pipeline:
    def load(self, context): ...
    @staticmethod
    @cloaca.task
    def clean(context): ...
cloaca.task(Pipeline().load)
@cloaca.task
def annotated(self: cloaca.Context): ...
"""
    assert run_program(tmp_path, program) == (0, "")


def test_a_program_may_be_typed_into_the_interpreter(tmp_path: Path) -> None:
    """Number 54: the program works although Python cannot read its source lines again."""
    typed = PRELUDE + (
        'with cloaca.WorkflowBuilder("w"):\n'
        "    @cloaca.task\n"
        "    def a(context):\n"
        '        return {"n": 1}\n'
        "\n"
        'run("w")\n'
    )
    status, printed = run_program(tmp_path, "", "-", stdin=typed)
    assert status == 0, printed
    assert "context {'n': 1}" in printed


def test_every_mistake_number_has_a_test() -> None:
    numbers = {mistake.number for mistake in MISTAKES} | set(ELSEWHERE) | {27, 54}
    assert numbers == set(range(56))


@pytest.mark.parametrize("place", [place for places in ELSEWHERE.values() for place in places])
def test_tests_in_other_files_exist(place: str) -> None:
    file, _, name = place.partition("::")
    tree = ast.parse((TESTS / file).read_text())
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert any(found.startswith(name or "test_") for found in names)
