"""The defaults of a declared input also apply to children and to inputs of other programs (J5)."""

import dataclasses
import uuid

import msgspec
import pydantic
import pytest

import cloaca
from cloaca.testing import VirtualRunner, run_task


@dataclasses.dataclass
class Dataclass:
    n: int
    k: int = 5


class Struct(msgspec.Struct):
    n: int
    k: int = 5


class Model(pydantic.BaseModel):
    n: int
    k: int = 5


MODELS = [Dataclass, Struct, Model]


def define_kid(model):
    with cloaca.WorkflowBuilder("kid", input=model, output="out"):

        @cloaca.task
        def out(n: int, k: int) -> int:
            return n + k

    return out


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "options",
    [{"input": {"n": "m"}}, {"input": {"n": "item"}, "over": "many"}, {}],
    ids=["input", "over", "context"],
)
def test_j5_declared_child_gets_the_defaults_of_its_input(model, options):
    define_kid(model)
    with cloaca.WorkflowBuilder("parent"):
        cloaca.child("c", workflow="kid", **options)
    with VirtualRunner() as runner:
        result = runner.execute("parent", {"m": 1, "n": 1, "many": [1, 2]})
        assert result.status == "Completed", result.error_message
        assert result.of("c") == ([6, 7] if "over" in options else 6)


@pytest.mark.parametrize("model", MODELS)
def test_j5_input_of_another_program_gets_the_defaults(model, tmp_path):
    url = f"sqlite:///{tmp_path}/other.db"
    with cloaca.WorkflowBuilder("kid"):
        cloaca.task(id="out")(lambda: None)
    with cloaca.DefaultRunner(url, start=False) as runner:
        # Submits the execution like a program that does not know the model.
        handle = runner.submit("kid", {"n": 1})
    out = define_kid(model)
    with cloaca.DefaultRunner(url) as runner:
        result = runner.get_handle(handle.id).result(timeout=60)
    assert result.status == "Completed", result.error_message
    assert result.of(out) == 6


def test_j5_default_of_a_parameter_wins_over_the_inputs_default():
    with cloaca.WorkflowBuilder("kid", input=Dataclass, output="out"):

        @cloaca.task
        def out(n: int, k: int = 7) -> int:
            return n + k

    with cloaca.WorkflowBuilder("parent", output="c"):
        cloaca.child("c", workflow="kid")
    with VirtualRunner() as runner:
        assert runner.execute("parent", {"n": 1}).output == 8


def test_j5_default_of_the_input_wins_over_none():
    with cloaca.WorkflowBuilder("kid", input=Dataclass, output="out"):

        @cloaca.task
        def out(k: int | None) -> int | None:
            return k

    with cloaca.WorkflowBuilder("parent", output="c"):
        cloaca.child("c", workflow="kid")
    with VirtualRunner() as runner:
        assert runner.execute("parent").output == 5


def test_j5_computed_default_is_the_same_for_all_tasks():
    class Tagged(msgspec.Struct):
        tag: uuid.UUID = msgspec.field(default_factory=uuid.uuid4)

    with cloaca.WorkflowBuilder("kid", input=Tagged, output=("first", "second")):

        @cloaca.task
        def first(tag: uuid.UUID) -> str:
            return str(tag)

        @cloaca.task
        def second(tag) -> str:
            return tag

    with cloaca.WorkflowBuilder("parent"):
        cloaca.child("c", workflow="kid", over="many")
    with VirtualRunner() as runner:
        one, other = runner.execute("parent", {"many": [1, 2]}).of("c")
    assert one[0] == one[1]
    assert other[0] == other[1]
    assert one != other


def test_j5_field_without_a_default_stays_missing():
    out = define_kid(Dataclass)
    with pytest.raises(cloaca.TaskInputError, match="the input has no 'n'"):
        run_task(out, {})
    assert run_task(out, {"n": 2})["out"] == 7
