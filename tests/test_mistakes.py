"""A program with a newcomer's mistake prints what the mistake is and how to correct it.

The numbers of the mistakes come from a trial of 55 typical mistakes; 0 stands for other mistakes. A
message may be printed on stdout or stderr, because a newcomer reads both.
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

#: The numbers of mistakes that are tested in other files, with the names of the files or tests.
ELSEWHERE = {
    12: ["test_connecting.py::", "test_bad_input.py::test_an_invalid_database_url_is_refused"],
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
    for text in mistake.expected_texts:
        found = printed.find(text, position)
        assert found >= 0, f"not printed: {text!r}\n{printed}"
        position = found + 1
    assert status == mistake.status, printed
    assert "secret" not in printed


def test_later_task_wins_a_key_that_two_branches_write(tmp_path: Path) -> None:
    """Mistake 27: the order of the definitions decides (B3), and `explain` names both tasks."""
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
def test_intended_second_definition_causes_no_warning(tmp_path: Path, is_edited: bool) -> None:
    """Mistake 10: a function that defines a workflow is called again, or its module is reloaded."""
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


def test_default_that_keeps_the_variable_of_a_loop_causes_no_warning(tmp_path: Path) -> None:
    """Mistakes 28 and 34: the input may have a key with the name of the loop's variable."""
    program = """
with cloaca.WorkflowBuilder("w"):
    for region in ["north", "south"]:
        @cloaca.task(id=f"load_{region}")
        def load(context, region=region):
            context[f"loaded_{region}"] = 1
run("w", {"region": "all"})
"""
    status, printed = run_program(tmp_path, program)
    assert status == 0, printed
    assert "keeps its default" not in printed
    assert "'loaded_north': 1, 'loaded_south': 1" in printed


def test_tests_may_define_workflows_of_the_same_name(tmp_path: Path) -> None:
    """Mistake 10: pytest runs a file whose tests and helper functions use one workflow name."""
    tests = """
import cloaca
def define(id):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id=id)(lambda context: None)
def define_both():
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="one")(lambda context: None)
        cloaca.task(id="two")(lambda context: None)
def test_one(caplog):
    define("one")
    define("two")
    define_both()
    assert not caplog.records
def test_two(caplog):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="three")(lambda context: None)
    assert not caplog.records
"""
    (tmp_path / "test_w.py").write_text(tests)
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_w.py")
    status, printed = run_program(tmp_path, "", *command)
    assert status == 0, printed


def test_bound_and_static_methods_cause_no_warning(tmp_path: Path) -> None:
    """Mistake 30: only an unbound method, whose `self` receives the context, is a mistake."""
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


def test_a_program_can_be_typed_into_the_interpreter(tmp_path: Path) -> None:
    """Mistake 54: the program works although Python cannot look up its source lines."""
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
